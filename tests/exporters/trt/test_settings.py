"""Settings that are read back; a builder that is deaf to one of them is an error."""

from types import ModuleType, SimpleNamespace
from typing import cast

import pytest

from exporters.trt.platform import Platform
from exporters.trt.settings import BuildRequest, configure, flags
from scconv_deploy.errors import BuildError
from scconv_deploy.runtime.nvidia_driver import NoGpu
from scconv_deploy.tensorrt_options import MIB, Compatibility, Pool, TensorRTOptions, Verbosity
from tests.exporters.trt.models import rtx_platform
from tests.exporters.trt.networks import empty_network


def test_every_setting_reaches_the_real_builder() -> None:
    platform = rtx_platform()
    _, config, network = empty_network(platform, (2, 3, 16, 16))
    assert config.get_flag(platform.module.BuilderFlag.TF32), (
        "TF32 is on by default: this is why it is cleared"
    )
    read = configure(
        platform,
        config,
        network,
        BuildRequest((), ("sm_80", "sm_120"), TensorRTOptions({Pool.WORKSPACE: 64 * MIB})),
    )
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

    def set_flag(self, flag: object) -> None: ...

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


def test_every_option_that_this_builder_can_honour_reads_back() -> None:
    platform = rtx_platform()
    _, config, network = empty_network(platform, (2, 3, 16, 16))
    options = TensorRTOptions(
        {Pool.TACTIC_SHARED_MEM: 48 * 1024},
        optimization_level=5,
        weight_streaming=True,
        refit=True,
        strip_weights=True,
        max_aux_streams=3,
        profiling_verbosity=Verbosity.NONE,
        tf32=True,
    )
    read = configure(platform, config, network, BuildRequest((), ("sm_89",), options))
    assert read == {
        "strongly_typed": True,
        "tf32": True,
        "profiling_verbosity": "NONE",
        "weight_streaming": True,
        "refit": True,
        "strip_plan": True,
        "tactic_shared_mem_bytes": 48 * 1024,
        "builder_optimization_level": 5,
        "max_aux_streams": 3,
        "compute_capabilities": ["SM89"],
    }
    assert config.get_flag(platform.module.BuilderFlag.TF32)


def test_a_pool_that_is_larger_than_the_builder_takes_is_an_error() -> None:
    platform = rtx_platform()
    _, config, network = empty_network(platform, (2, 3, 16, 16))
    options = TensorRTOptions({Pool.TACTIC_SHARED_MEM: 2**36})
    with pytest.raises(BuildError, match="did not take the setting tactic_shared_mem_bytes=68719476736"):
        configure(platform, config, network, BuildRequest((), ("sm_89",), options))


def test_flags_that_exclude_each_other_do_not_pass_unseen() -> None:
    """The builder drops REFIT_IDENTICAL's rivals with a warning only; reading back finds such a loss."""

    class Forgetful(_DeafConfig):
        def get_flag(self, flag: object) -> bool:
            return flag == "WEIGHT_STREAMING"

    platform = _deaf_platform()
    platform.module.BuilderFlag.REFIT = "REFIT"
    platform.module.BuilderFlag.WEIGHT_STREAMING = "WEIGHT_STREAMING"
    network = SimpleNamespace(get_flag=lambda flag: True)
    streaming = BuildRequest((), options=TensorRTOptions(weight_streaming=True))
    assert configure(platform, Forgetful(), network, streaming)["weight_streaming"] is True
    with pytest.raises(BuildError, match="refit=True: it reads back as False"):
        configure(platform, Forgetful(), network, BuildRequest((), options=TensorRTOptions(refit=True)))


def test_compatibility_is_set_and_read_on_tensorrt() -> None:
    class Config(_DeafConfig):
        hardware_compatibility_level = SimpleNamespace(name="NONE")

        def get_flag(self, flag: object) -> bool:
            return False

    platform = _deaf_platform()
    levels = SimpleNamespace(AMPERE_PLUS=SimpleNamespace(name="AMPERE_PLUS"))
    platform.module.HardwareCompatibilityLevel = levels  # type: ignore[attr-defined]
    options = TensorRTOptions(hardware_compatibility=Compatibility.AMPERE_PLUS)
    network = SimpleNamespace(get_flag=lambda flag: True)
    read = configure(platform, Config(), network, BuildRequest((), options=options))
    assert read["hardware_compatibility_level"] == "AMPERE_PLUS"


def test_flags_are_named_as_the_library_names_them() -> None:
    assert flags(TensorRTOptions()) == ()
    every = TensorRTOptions(version_compatible=True, strip_weights=True, refit=True, weight_streaming=True)
    assert flags(every) == ("VERSION_COMPATIBLE", "STRIP_PLAN", "REFIT", "WEIGHT_STREAMING")
    members = rtx_platform().module.BuilderFlag.__members__
    assert set(flags(every)) <= set(members)
