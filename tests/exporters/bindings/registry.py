"""A plugin registry that remembers: what ``tensorrt.plugin`` registers -> creators by (namespace, name).

The stub has no registry (null), so code that registers eagerly would fail; with this one in place the whole
registration of a quickly deployable plugin runs: signature checks, autotune, implementation, creation.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any


class RecordingRegistry:
    """Stands in for ``tensorrt.IPluginRegistry`` where only registration is looked at."""

    def __init__(self) -> None:
        self.creators: dict[tuple[str, str], Any] = {}

    def register_creator(self, creator: Any, plugin_namespace: str = "") -> bool:
        self.creators[plugin_namespace, str(creator.name)] = creator
        return True

    def get_creator(self, type: str, version: str, plugin_namespace: str = "") -> Any:  # noqa: A002 - its name
        del version
        return self.creators.get((plugin_namespace, type))


def install(tensorrt: ModuleType) -> RecordingRegistry:
    """Make ``tensorrt.get_plugin_registry()`` answer a new recording registry; return it."""
    registry = RecordingRegistry()
    tensorrt.get_plugin_registry = lambda: registry  # type: ignore[attr-defined]
    return registry
