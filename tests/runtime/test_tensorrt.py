"""The runner's contract with TensorRT and CUDA, against stand-ins that record every call.

What stand-ins cannot prove is that a GPU agrees; the module says so too.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.kernels.names import operators
from scconv_deploy.runtime import cuda_device, tensorrt, tensorrt_plugin
from scconv_deploy.runtime.device_timing import Copy, Device
from scconv_deploy.runtime.engine_options import EngineOptions
from scconv_deploy.runtime.nvidia_driver import NoGpu
from scconv_deploy.runtime.tensorrt import TensorRTRunner, obstacle
from tests.runtime.gpu_machine import Machine, rows

NO_CACHE = EngineOptions(runtime_cache=False)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def test_it_computes_on_the_device_and_brings_the_result_back(machine: Machine) -> None:
    with TensorRTRunner(machine.plan) as runner:
        assert (runner.input_names, runner.output_names) == (("x",), ("z",))
        for count in (1, 3, 1, 4, 4):
            np.testing.assert_array_equal(runner.run({"x": rows(count)})["z"], 2 * rows(count))
    assert machine.cuda.memory == {}, "device memory was left behind"
    assert machine.cuda.streams == {}, "a stream was left behind"


def test_the_calls_come_in_the_order_cuda_needs(machine: Machine) -> None:
    with TensorRTRunner(machine.plan, options=NO_CACHE) as runner:
        for _ in range(2):
            runner.run({"x": np.zeros((2, 3), np.float32)})
    again = ["copy HostToDevice", "execute", "copy DeviceToHost", "cudaStreamSynchronize"]
    assert machine.cuda.calls == [
        "cudaStreamCreateWithFlags",
        "shape",
        "cudaMalloc",
        "cudaMalloc",
        *again,
        *again,  # a shape that is set already is not set again
        "cudaFree",
        "cudaFree",
        "cudaStreamDestroy",
    ]


def test_an_array_that_is_not_contiguous_is_read_in_its_own_order(machine: Machine) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T[:, ::-1]
    assert not x.flags.c_contiguous
    with TensorRTRunner(machine.plan) as runner:
        np.testing.assert_array_equal(runner.run({"x": x})["z"], 2 * x)


def test_an_empty_batch_still_has_an_address(machine: Machine) -> None:
    machine.holds(((0, 3), (2, 3), (4, 3)))
    with TensorRTRunner(machine.plan) as runner:
        assert runner.run({"x": np.zeros((0, 3), np.float32)})["z"].shape == (0, 3)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "takes inputs x; given were none"),
        ({"y": np.zeros((2, 3), np.float32)}, "takes inputs x; given were y"),
        ({"x": np.zeros((2, 3))}, "input 'x' must be float32, not float64"),
        ({"x": np.zeros((5, 3), np.float32)}, "shape 5x3; this engine takes 1x3 to 4x3"),
        ({"x": np.zeros((2, 4), np.float32)}, "shape 2x4; this engine takes 1x3 to 4x3"),
        ({"x": np.zeros((2, 3, 1), np.float32)}, "shape 2x3x1; this engine takes 1x3 to 4x3"),
    ],
)
def test_wrong_inputs_are_refused_in_words_before_anything_runs(
    machine: Machine, inputs: dict[str, np.ndarray], words: str
) -> None:
    with TensorRTRunner(machine.plan) as runner, pytest.raises(InputError, match=words):
        runner.run(inputs)
    assert "execute" not in machine.cuda.calls
    assert machine.cuda.memory == {}


def test_a_type_that_numpy_lacks_is_refused_by_name(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.engine, "get_tensor_dtype", lambda name: "BF16")
    with pytest.raises(InputError, match="'x' is BF16"):
        TensorRTRunner(machine.plan).__enter__()
    assert machine.cuda.streams == {}


def test_bfloat16_is_numpys_through_ml_dtypes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.engine, "get_tensor_dtype", lambda name: "BF16")
    monkeypatch.setattr(machine.rtx, "bfloat16", "BF16", raising=False)
    with (
        TensorRTRunner(machine.plan) as runner,
        pytest.raises(InputError, match="input 'x' must be bfloat16, not float32"),
    ):
        runner.run({"x": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize("failing", ["cudaMalloc", "copy HostToDevice", "cudaStreamSynchronize"])
def test_a_cuda_error_is_raised_by_name_and_frees_everything(machine: Machine, failing: str) -> None:
    with TensorRTRunner(machine.plan) as runner:
        machine.cuda.failing = failing
        with pytest.raises(CapabilityError, match="CUDA reports cudaErrorMemoryAllocation in cuda"):
            runner.run({"x": rows(2)})
        machine.cuda.failing = None
        np.testing.assert_array_equal(runner.run({"x": rows(2)})["z"], 2 * rows(2))
    assert machine.cuda.memory == {}
    assert machine.cuda.calls[-1] == "cudaStreamDestroy"


def test_an_engine_that_does_not_start_gives_no_numbers(machine: Machine) -> None:
    machine.engine._starts = False
    with (
        TensorRTRunner(machine.plan) as runner,
        pytest.raises(CapabilityError, match="could not be started"),
    ):
        runner.run({"x": np.zeros((2, 3), np.float32)})
    assert machine.cuda.memory == {}


def test_a_file_that_is_no_plan_is_refused(machine: Machine) -> None:
    machine.plan.write_bytes(b'{"metadata": 1}plan')
    with pytest.raises(InputError, match="is not an engine of this runtime, or is damaged"):
        TensorRTRunner(machine.plan).__enter__()


def test_a_plan_for_another_gpu_or_version_is_refused(machine: Machine) -> None:
    machine.rtx.engine = None
    with pytest.raises(CapabilityError, match="built for another version or compute capability"):
        TensorRTRunner(machine.plan).__enter__()


def test_outside_of_with_it_refuses_and_the_gpu_is_untouched(machine: Machine) -> None:
    runner = TensorRTRunner(machine.plan)
    with pytest.raises(CapabilityError, match="not open"):
        runner.run({"x": np.zeros((2, 3), np.float32)})
    assert machine.cuda.calls == []
    with runner:
        pass
    with pytest.raises(CapabilityError, match="not open"):
        runner.run({"x": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize(
    ("runtime", "missing", "words"),
    [
        ("tensorrt-rtx", "tensorrt_rtx", r'tensorrt_rtx is not installed.*"scconv-deploy\[trt-rtx\]"'),
        ("tensorrt", "tensorrt", r'tensorrt is not installed.*"scconv-deploy\[trt\]"'),
        (
            "tensorrt-rtx",
            "cuda.bindings.runtime",
            "cuda-bindings is not installed.*pip install cuda-bindings",
        ),
    ],
)
def test_a_missing_library_is_named_with_its_line(
    machine: Machine, runtime: str, missing: str, words: str
) -> None:
    machine.modules.pop(missing, None)
    with pytest.raises(CapabilityError, match=words):
        TensorRTRunner(machine.plan, runtime).__enter__()


def test_without_a_gpu_nothing_is_even_imported(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "probe", lambda: NoGpu("no NVIDIA GPU on this machine"))
    for module in (tensorrt, cuda_device):
        monkeypatch.setattr(module, "load", lambda name: pytest.fail(f"{name} was imported"))
    assert obstacle("tensorrt") == "no NVIDIA GPU on this machine"
    with pytest.raises(CapabilityError, match=r"model\.engine cannot be run here: no NVIDIA GPU"):
        TensorRTRunner(machine.plan).__enter__()


def test_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'onnx' is no TensorRT runtime"):
        TensorRTRunner(tmp_path / "x", "onnx")


def test_device_times_are_taken_on_the_runners_own_buffers(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One launch between the copies it was given computes what ``run`` computes."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    seen: list[np.ndarray] = []

    def once(device: Device, sends: Sequence[Copy], fetches: Sequence[Copy]) -> str:
        (send,), (fetch,) = sends, fetches
        for copy in (send, None, fetch):
            if copy is None:
                assert device.launch()
            else:
                device.call("cudaMemcpyAsync", copy.to, copy.source, copy.size, copy.kind, device.stream)
        seen.append(np.ctypeslib.as_array((ctypes.c_float * 6).from_address(fetch.to)).copy())
        return "times"

    monkeypatch.setattr(tensorrt, "timed_pass", once)
    with TensorRTRunner(machine.plan) as runner:
        assert runner.device_times({"x": x}) == "times"  # type: ignore[comparison-overlap]
        np.testing.assert_array_equal(seen[0].reshape(2, 3), 2 * x)
    assert machine.cuda.memory == {}
    with pytest.raises(CapabilityError, match="not open"):
        runner.device_times({"x": x})


# Profiles.


def test_the_profile_that_fits_is_chosen_and_set(machine: Machine) -> None:
    machine.holds(((1, 3), (1, 3), (2, 3)), ((3, 3), (6, 3), (8, 3)))
    with TensorRTRunner(machine.plan, options=NO_CACHE) as runner:
        for count in (8, 1, 3):
            np.testing.assert_array_equal(runner.run({"x": rows(count)})["z"], 2 * rows(count))
        with pytest.raises(InputError, match=r"shape 9x3; this engine takes 1x3 to 2x3; or 3x3 to 8x3"):
            runner.run({"x": rows(9)})
    assert [c for c in machine.cuda.calls if "profile" in c] == ["profile 1", "profile 0", "profile 1"]


# Several calls at once.


def test_calls_run_at_once_each_on_its_own_context(machine: Machine) -> None:
    meeting = threading.Barrier(3, timeout=10)
    machine.engine._meet = meeting.wait
    results: dict[int, np.ndarray] = {}
    with TensorRTRunner(machine.plan, options=EngineOptions(contexts=3, runtime_cache=False)) as runner:

        def work(number: int) -> None:
            results[number] = runner.run({"x": rows(2, number)})["z"]

        workers = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert len(machine.engine._configs) == 3
    for number in range(3):
        np.testing.assert_array_equal(results[number], 2 * rows(2, number))
    assert machine.cuda.memory == machine.cuda.streams == {}


def test_with_one_context_many_threads_take_turns(machine: Machine) -> None:
    wrong: list[object] = []
    with TensorRTRunner(machine.plan) as runner:

        def work(number: int) -> None:
            for i in range(20):
                x = rows(1 + (number + i) % 4, number)
                if not np.array_equal(runner.run({"x": x})["z"], 2 * x):
                    wrong.append((number, i))

        workers = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert wrong == []
    assert len(machine.engine._configs) == 1


# CUDA graphs.


def test_a_shape_is_captured_after_its_second_call_and_then_replayed(machine: Machine) -> None:
    with TensorRTRunner(machine.plan, "tensorrt", EngineOptions(cuda_graphs=True)) as runner:
        for first in range(5):
            np.testing.assert_array_equal(runner.run({"x": rows(2, first)})["z"], 2 * rows(2, first))
        assert machine.cuda.calls.count("execute") == 2
        assert machine.cuda.calls.count("capture") == 1
        assert machine.cuda.calls.count("cudaGraphLaunch") == 3
        np.testing.assert_array_equal(runner.run({"x": rows(3)})["z"], 2 * rows(3))
        assert machine.cuda.graphs == set(), "a graph outlived the shape it was captured for"
    assert machine.cuda.memory == machine.cuda.streams == {}


def test_an_engine_that_cannot_be_captured_runs_as_before(machine: Machine) -> None:
    machine.cuda.failing = "cudaStreamEndCapture"
    with TensorRTRunner(machine.plan, "tensorrt", EngineOptions(cuda_graphs=True)) as runner:
        for first in range(5):
            np.testing.assert_array_equal(runner.run({"x": rows(2, first)})["z"], 2 * rows(2, first))
        assert "cudaStreamEndCapture" in runner.graph_refusals()[0]
    assert machine.cuda.calls.count("cudaStreamBeginCapture") == 1, "it tries once"


def test_rtx_captures_by_itself_where_it_is_told_to(machine: Machine) -> None:
    for graphs, strategy in ((True, "WHOLE_GRAPH_CAPTURE"), (False, "DISABLED")):
        with TensorRTRunner(machine.plan, options=EngineOptions(cuda_graphs=graphs)) as runner:
            for _ in range(4):
                runner.run({"x": rows(2)})
        config = machine.engine._configs[-1]
        assert config is not None
        assert config.cuda_graph_strategy == strategy
    assert "cudaStreamBeginCapture" not in machine.cuda.calls


# The kernel cache, and streamed weights.


def test_compiled_kernels_are_kept_and_taken_up_again(machine: Machine, tmp_path: Path) -> None:
    for words in ("compiled here are kept", "compiled before were taken"):
        with TensorRTRunner(machine.plan) as runner:
            assert words in runner.notes[0]
    (file,) = (tmp_path / "cache" / "scconv-deploy" / "tensorrt-rtx").iterdir()
    assert file.read_bytes() == b"kernels compiled here"
    file.write_bytes(b"of another driver")
    with TensorRTRunner(machine.plan) as runner:
        assert "compiled here are kept" in runner.notes[0]
    assert file.read_bytes() == b"kernels compiled here"


def test_no_cache_is_written_where_none_is_wanted(machine: Machine, tmp_path: Path) -> None:
    for runtime, options in (("tensorrt-rtx", NO_CACHE), ("tensorrt", EngineOptions())):
        with TensorRTRunner(machine.plan, runtime, options) as runner:
            assert runner.notes == ()
    assert not (tmp_path / "cache").exists()


def test_weights_are_streamed_within_a_budget(machine: Machine) -> None:
    for budget, words in ((None, "640 of 1000"), (100, "100 of 1000")):
        machine.holds().streamable_weights_size = 1000
        with TensorRTRunner(machine.plan, options=EngineOptions(weight_budget=budget)) as runner:
            assert words in runner.notes[0]
    machine.holds().streamable_weights_size = 1000
    machine.engine._takes_budget = False
    with pytest.raises(CapabilityError, match="did not take the weight budget 100: it reads back as 0"):
        TensorRTRunner(machine.plan, options=EngineOptions(weight_budget=100)).__enter__()
    machine.holds()
    with pytest.raises(CapabilityError, match="not built with weight streaming"):
        TensorRTRunner(machine.plan, options=EngineOptions(weight_budget=100)).__enter__()


# Refusals before anything is loaded.


def test_a_manifest_of_another_gpu_is_refused_before_the_plan_is_read(machine: Machine) -> None:
    manifest = {"details": {"compute_capabilities": ["sm_120"]}}
    assert "built for sm_120 and this machine's L4 is sm_89" in str(obstacle("tensorrt-rtx", manifest))
    machine.plan.unlink()
    with pytest.raises(CapabilityError, match="built for sm_120"):
        TensorRTRunner(machine.plan, manifest=manifest).__enter__()
    assert machine.cuda.calls == []
    assert obstacle("tensorrt-rtx", {"details": {"compute_capabilities": ["sm_89"]}}) is None


def test_what_rtx_says_of_a_plan_comes_back_in_words(machine: Machine) -> None:
    machine.rtx.invalid = 2 | 4
    with pytest.raises(
        CapabilityError, match=r"not built for this GPU's compute capability; the NVIDIA driver"
    ):
        TensorRTRunner(machine.plan).__enter__()
    assert machine.cuda.streams == {}


def test_results_may_go_into_arrays_of_the_caller(machine: Machine) -> None:
    into = np.empty((2, 3), np.float32)
    with TensorRTRunner(machine.plan) as runner:
        assert runner.run_into({"x": rows(2)}, {"z": into})["z"] is into
        np.testing.assert_array_equal(into, 2 * rows(2))
        for wrong in (np.empty((3, 3), np.float32), np.empty((2, 3)), np.empty((3, 2), np.float32).T):
            with pytest.raises(
                InputError, match="the array for output 'z' must be writable, contiguous, float32"
            ):
                runner.run_into({"x": rows(2)}, {"z": wrong})


def test_an_output_whose_size_the_data_decide_is_refused(machine: Machine) -> None:
    machine.engine._output = (-1, 3)
    with TensorRTRunner(machine.plan) as runner, pytest.raises(CapabilityError, match="only the data decide"):
        runner.run({"x": rows(2)})


@pytest.mark.parametrize(
    ("runtime", "plan", "manifest", "wanted"),
    [
        ("tensorrt-rtx", b"plan", {"form": "plugin"}, True),
        ("tensorrt-rtx", b"plan " + operators()[0].encode(), None, True),
        ("tensorrt-rtx", b"plan", {"form": "standard"}, False),
        ("tensorrt-rtx", b"plan", None, False),
        ("tensorrt", b"plan", {"form": "plugin"}, False),  # its ahead-of-time plugins travel in the engine
    ],
)
def test_our_plugins_are_registered_before_a_plan_that_needs_them_is_loaded(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    runtime: str,
    plan: bytes,
    manifest: dict[str, str] | None,
    wanted: bool,
) -> None:
    known: list[object] = []
    monkeypatch.setattr(tensorrt, "_CREATORS", known)
    monkeypatch.setattr(tensorrt_plugin, "register", lambda module: [module])
    machine.plan.write_bytes(plan)
    with TensorRTRunner(machine.plan, runtime, manifest=manifest):
        assert known == ([machine.rtx] if wanted else [])
