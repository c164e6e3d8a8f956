"""Settings that are read back, and profiles that must fit the graph."""

from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from exporters.trt.platform import Platform
from exporters.trt.settings import BuildRequest, configure, set_shapes
from scconv_deploy.errors import BuildError
from scconv_deploy.runtime.nvidia_driver import NoGpu
from tests.exporters.trt.models import DYNAMIC, rtx_platform


def _network(platform: Platform, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    module = platform.module
    builder = module.Builder(module.Logger(module.Logger.INTERNAL_ERROR))
    network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    network.add_input("x", module.float32, shape)
    return builder, builder.create_builder_config(), network


def test_every_setting_reaches_the_real_builder() -> None:
    platform = rtx_platform()
    _, config, network = _network(platform, (2, 3, 16, 16))
    assert config.get_flag(platform.module.BuilderFlag.TF32), (
        "TF32 is on by default: this is why it is cleared"
    )
    read = configure(platform, config, network, BuildRequest((), ("sm_80", "sm_120"), 64))
    assert read == {
        "strongly_typed": True,
        "tf32": False,
        "profiling_verbosity": "DETAILED",
        "workspace_bytes": 64 * 2**20,
        "compute_capabilities": ["SM80", "SM120"],
    }
    assert not config.get_flag(platform.module.BuilderFlag.TF32)


class _DeafConfig:
    """Takes every setting and keeps none, which real builders do with flags they have dropped."""

    profiling_verbosity = SimpleNamespace(name="DETAILED")

    def clear_flag(self, flag: object) -> None: ...

    def get_flag(self, flag: object) -> bool:
        return True

    def set_memory_pool_limit(self, pool: object, size: int) -> None: ...

    def get_memory_pool_limit(self, pool: object) -> int:
        return 0


def _deaf_platform() -> Platform:
    module = SimpleNamespace(
        __name__="tensorrt",
        __version__="99",
        BuilderFlag=SimpleNamespace(TF32=1),
        ProfilingVerbosity=SimpleNamespace(DETAILED=SimpleNamespace(name="DETAILED")),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=0),
        MemoryPoolType=SimpleNamespace(WORKSPACE=0),
    )
    return Platform(cast(ModuleType, module), NoGpu(""), "")


def test_a_builder_that_ignores_a_setting_is_an_error_with_its_name() -> None:
    network = SimpleNamespace(get_flag=lambda flag: True)
    with pytest.raises(
        BuildError, match="TensorRT 99 did not take the setting tf32=False: it reads back as True"
    ):
        configure(_deaf_platform(), _DeafConfig(), network, BuildRequest(()))


def test_a_network_that_is_not_strongly_typed_is_an_error() -> None:
    network = SimpleNamespace(get_flag=lambda flag: False)
    with pytest.raises(BuildError, match="strongly_typed=True"):
        configure(_deaf_platform(), _DeafConfig(), network, BuildRequest(()))


def test_a_dynamic_input_gets_its_profile() -> None:
    builder, config, network = _network(rtx_platform(), (-1, 3, 16, 16))
    profile = set_shapes(builder, config, network, BuildRequest(DYNAMIC))
    assert profile == [
        {"input": "x", "min": [1, 3, 16, 16], "opt": [4, 3, 16, 16], "max": [8, 3, 16, 16]},
    ]
    assert config.num_optimization_profiles == 1


def test_at_optimum_nothing_is_dynamic_any_more() -> None:
    builder, config, network = _network(rtx_platform(), (-1, 3, 16, 16))
    assert set_shapes(builder, config, network, BuildRequest(DYNAMIC, at_optimum=True)) == []
    assert tuple(network.get_input(0).shape) == (4, 3, 16, 16)


def test_a_static_input_needs_no_profile() -> None:
    builder, config, network = _network(rtx_platform(), (2, 3, 16, 16))
    assert set_shapes(builder, config, network, BuildRequest(())) == []
    assert config.num_optimization_profiles == 0


def test_a_dynamic_input_without_a_range_is_refused_by_name() -> None:
    builder, config, network = _network(rtx_platform(), (-1, 3, 16, 16))
    with pytest.raises(
        BuildError, match=r"input 'x' has dynamic axes \(\?x3x16x16\) and no range; give --minShapes"
    ):
        set_shapes(builder, config, network, BuildRequest(()))


def test_a_range_that_does_not_fit_the_graph_is_refused() -> None:
    builder, config, network = _network(rtx_platform(), (-1, 3, 16, 16))
    wrong = (replace(DYNAMIC[0], maximum=(8, 3, 32, 16)),)
    with pytest.raises(
        BuildError, match=r"maximum shape 8x3x32x16 of input 'x' does not fit .* is \?x3x16x16"
    ):
        set_shapes(builder, config, network, BuildRequest(wrong))
