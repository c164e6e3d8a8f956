"""Recipes: what is refused in which words, and what the calls compute."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from scconv_deploy.bench.openers import ModuleOpener, NotPortableError, RunnerOpener, module_call
from scconv_deploy.bench.session import Session
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.runtime.onnx import OnnxRunner
from tests.runtime.block_models import Case, image, write

X = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}


def test_a_saved_module_runs_without_gradients(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    torch.save(net, tmp_path / "module.pt")
    with ModuleOpener(tmp_path / "module.pt", False, tmp_path).open(1, X) as opened:
        result = opened.call()
    assert isinstance(result, torch.Tensor)
    assert not result.requires_grad
    assert torch.equal(result, net(torch.from_numpy(X["x"])))


def test_a_module_that_cannot_be_rebuilt_is_not_portable(tmp_path: Path) -> None:
    (tmp_path / "module.pt").write_bytes(b"no module")
    opener = ModuleOpener(tmp_path / "module.pt", False, tmp_path)
    with pytest.raises(NotPortableError, match="cannot be rebuilt in a process"), opener.open(1, X):
        pass


class InvalidCxxCompiler(RuntimeError):  # noqa: N818 - inductor's name
    """What inductor raises."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            InvalidCxxCompiler("No working C++ compiler found in torch._inductor.config.cpp.cxx"),
            "install g[+][+]",
        ),
        (ValueError("a graph break\nwith a long story"), "^torch.compile fails: a graph break$"),
    ],
)
def test_a_compilation_that_fails_says_what_is_missing(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(module: nn.Module, dynamic: bool) -> Callable[[torch.Tensor], None]:
        def run(x: torch.Tensor) -> None:
            raise error

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    with pytest.raises(CapabilityError, match=words):
        module_call(nn.Identity(), X, compiled=True)()


def test_inputs_the_network_does_not_read_are_left_out(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 3])
    node = onnx.helper.make_node("Neg", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [value], [result])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]), tmp_path / "m.onnx"
    )
    opener = RunnerOpener("onnxruntime", tmp_path / "m.onnx")
    opener.prepare(1)
    with opener.open(1, {**X, "unread": np.zeros(1)}) as opened:
        found = opened.call()
        assert opened.device_times is None
    assert isinstance(found, dict)
    np.testing.assert_array_equal(found["y"], -X["x"])


def test_what_a_runtime_says_of_the_open_model_is_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    case = Case()
    file = write(case, tmp_path / "model.onnx")
    session = Session(RunnerOpener("onnxruntime", file), 1, {"x": image(case)})
    with OnnxRunner(file, threads=1) as runner:
        assert session.open().notes == runner.notes
        assert bool(runner.notes) == (runner.layout is not None)
    session.close()


def test_an_unknown_runtime_is_an_input_error(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="cannot run 'abacus' artifacts"),
        RunnerOpener("abacus", tmp_path).open(1, X),
    ):
        pass


# In a process of its own: here, memory that earlier tests gave back may be used again without growing.
GROWING = """
import numpy as np
from scconv_deploy.bench import memory
before = memory.resident()
block = np.ones(40_000_000, np.uint8)
assert memory.resident() - before > 30_000_000
assert memory.peak() >= before + 30_000_000
"""


def test_memory_now_and_at_its_peak() -> None:
    subprocess.run([sys.executable, "-c", GROWING], check=True)
