"""One sentence per failure: the operator, the user's module, what it was given, and what to do."""

from types import ModuleType, SimpleNamespace
from typing import cast

import numpy as np
import onnx
import pytest
from onnx import helper

from exporters.trt.build import build_plan
from exporters.trt.diagnosis import NODE, cannot_start, refused_by_builder, tidy
from exporters.trt.platform import Platform
from exporters.trt.settings import BuildRequest
from scconv_deploy.errors import BuildError, CapabilityError
from scconv_deploy.runtime.nvidia_driver import Gpu, NoGpu
from scconv_deploy.tensorrt_options import MIB, Pool, TensorRTOptions
from tests.exporters.trt.models import SILENCE, conv_relu, model, rtx_platform

CUDA = (
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
    "/_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient for CUDA "
    "runtime version))"
)
PLATFORM = Platform(
    cast(ModuleType, SimpleNamespace(__name__="tensorrt", __version__="10.13")), NoGpu("no NVIDIA GPU"), ""
)


def _refusal(graph: onnx.ModelProto, blocks: tuple[str, ...] = ()) -> str:
    request = BuildRequest((), ("sm_89",), block_paths=blocks)
    with pytest.raises(BuildError) as caught:
        build_plan(rtx_platform(), graph.SerializeToString(), request, SILENCE)
    assert "\n" not in str(caught.value)
    assert "/_src/" not in str(caught.value)
    return str(caught.value)


def _grouped() -> onnx.ModelProto:
    broken = conv_relu()
    broken.graph.node[0].attribute.append(helper.make_attribute("group", 5))
    return broken


def test_the_node_its_block_what_it_was_given_and_how_much_is_fine() -> None:
    told = _refusal(_grouped(), ("layer2", "layer1.0"))
    assert (
        "node 'layer1.0.conv2/Conv_0' (Conv of float 2x3x16x16, float 8x3x3x3, group=5) of the SCConv block "
        "layer1.0 (module layer1.0.conv2): Kernel weight dimension failed to broadcast to input." in told
    )
    assert told.endswith("(3 of the graph's 4 nodes can be imported)")


def test_a_module_whose_path_only_begins_alike_is_not_that_block() -> None:
    told = _refusal(_grouped(), ("layer1.0.conv", "layer1.0.conv22"))
    assert "of module layer1.0.conv2:" in told
    assert "SCConv block" not in told


def test_types_that_do_not_agree_are_named_without_the_librarys_own_source() -> None:
    add = helper.make_node("Add", ["x", "w"], ["z"], name="blk/Add_0")
    told = _refusal(model([add], (2, 3), (2, 3), {"w": np.zeros((2, 3), np.int64)}))
    assert "(Add of float 2x3, int64 2x3) of module blk" in told
    assert "must have same input types" in told
    assert "cudaError" not in told, "a missing driver has nothing to do with it"


def test_a_failed_check_is_told_in_the_words_meant_for_a_person() -> None:
    resize = helper.make_node(
        "Resize",
        ["x", "", "s"],
        ["z"],
        name="up/Resize_0",
        mode="cubic",
        coordinate_transformation_mode="tf_crop_and_resize",
    )
    told = _refusal(model([resize], (1, 2, 3, 3), (1, 2, 6, 6), {"s": np.array([1, 1, 2, 2], np.float32)}))
    assert "coordinate_transformation_mode=tf_crop_and_resize" in told
    assert ": TensorRT only supports half_pixel" in told
    assert "&&" not in told


@pytest.mark.parametrize(
    ("errors", "kind", "words"),
    [
        ([CUDA], CapabilityError, r"needs an NVIDIA driver .* \(no NVIDIA GPU\): cudaError 35: CUDA driver"),
        (["no such thing", CUDA], BuildError, "refused the graph: no such thing$"),
        (["CHECK(status == CUDA_SUCCESS) failed."], CapabilityError, "needs an NVIDIA driver"),
        (
            ["Requested amount of GPU memory (1 bytes) could not be allocated"],
            CapabilityError,
            "the GPU's memory",
        ),
        (["OutOfMemory: Requested size was 52428800 bytes"], BuildError, r"of 8 MiB \(it asked for 50 MiB\)"),
        (["insufficient workspace"], BuildError, "within a workspace of 8 MiB; give a larger --workspace"),
        (["bad at stem/Conv_1 and a.b/Relu_2"], BuildError, r"\(in stem, a.b\)"),
        ([f"x{i}.m/Conv_{i}" for i in range(6)], BuildError, r"\(in x0.m, x1.m, x2.m, x3.m and others\)"),
        ([], BuildError, "it gave no reason"),
    ],
)
def test_what_the_builder_said_becomes_a_sentence(
    errors: list[str], kind: type[Exception], words: str
) -> None:
    request = BuildRequest((), options=TensorRTOptions({Pool.WORKSPACE: 8 * MIB}))
    error = refused_by_builder(PLATFORM, errors, request)
    assert type(error) is kind
    with pytest.raises(kind, match=words):
        raise error


def test_without_a_limit_of_the_user_the_default_is_named() -> None:
    error = refused_by_builder(PLATFORM, ["insufficient workspace"], BuildRequest(()))
    assert "within the builder's default; give a larger --workspace" in str(error)


def test_a_builder_that_cannot_start_says_whether_the_driver_is_why() -> None:
    here = Platform(PLATFORM.module, Gpu("Card", "sm_89"), "")
    assert "finds none it can use: cudaError 35" in str(cannot_start(here, CUDA))
    assert "cannot start its builder here: out of luck" in str(cannot_start(PLATFORM, "out of luck"))


def test_source_locations_say_nothing_to_a_user() -> None:
    assert tidy("wrong shape. In validate at /_src/a/b.cpp:40)") == "wrong shape."
    assert tidy("In the middle at noon") == "In the middle at noon"


def test_nodes_are_found_by_the_names_that_tracing_gives() -> None:
    assert NODE.findall("node a.0.b/Conv_12, /root/src_1 and path/to/file.cpp:3") == ["a.0.b"]
