"""Real networks without a graph, to set profiles and settings on."""

from __future__ import annotations

from typing import Any

from exporters.trt.platform import Platform


def empty_network(platform: Platform, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """A builder, its configuration, and a network with the one input ``x``."""
    module = platform.module
    builder = module.Builder(module.Logger(module.Logger.INTERNAL_ERROR))
    network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    network.add_input("x", module.float32, shape)
    return builder, builder.create_builder_config(), network
