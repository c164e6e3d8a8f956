"""What torch's exporter is asked for, and its failures in words; tests/stages runs real naive exports."""

from __future__ import annotations

import onnx
import onnx.parser
import pytest
import torch
from torch import nn

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.bench.naive import naive_export, name_by_module
from scconv_deploy.config import DEFAULT_OPSET
from scconv_deploy.errors import InputError

INPUTS = (TensorSpec("picture", "float32", ("batch", 3), (1, 3), (2, 3), (8, 3)),)


class Branching(nn.Module):
    """Takes another way for other numbers, which no trace can hold."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if bool(x.sum() > 0) else x


class Asked:
    """Stands where torch.onnx.export is, and remembers what it was given."""

    def __init__(self, answer: object = None) -> None:
        self.answer = answer
        self.shape: tuple[int, ...] = ()
        self.options: dict[str, object] = {}

    def __call__(self, module: nn.Module, example: tuple[torch.Tensor, ...], **options: object) -> object:
        self.shape, self.options = tuple(example[0].shape), options
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("batches", "traced", "free"), [((4,), 4, False), ((4, 4), 4, False), ((1, 8), 8, True), ((1,), 1, False)]
)
def test_the_batch_is_free_only_for_several_sizes(
    batches: tuple[int, ...], traced: int, free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked()
    monkeypatch.setattr(torch.onnx, "export", asked)
    with pytest.raises(InputError, match="returned nothing"):
        naive_export(nn.Identity(), INPUTS, batches, seed=0)
    assert asked.shape == (traced, 3)
    assert (asked.options["dynamic_shapes"] is not None) == free
    assert (asked.options["dynamo"], asked.options["opset_version"]) == (True, DEFAULT_OPSET)
    assert asked.options["input_names"] == ["picture"]


def test_a_module_that_cannot_be_traced_is_a_sentence() -> None:
    with pytest.raises(InputError, match="the naive ONNX export fails: ") as caught:
        naive_export(Branching().eval(), INPUTS, (2,), seed=0)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_only_the_first_line_of_a_long_cause_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", Asked(RuntimeError("x" * 900 + "\nsecond")))
    with pytest.raises(InputError) as caught:
        naive_export(nn.Identity(), INPUTS, (2,), seed=0)
    assert str(caught.value) == "the naive ONNX export fails: " + "x" * 300


def test_the_module_is_exported_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: seen.append(torch.is_grad_enabled()))
    with pytest.raises(InputError):
        naive_export(nn.Identity(), INPUTS, (2,), seed=0)
    assert seen == [False]
    assert torch.is_grad_enabled()


def test_nodes_are_named_after_the_modules_their_metadata_tell() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 2, 1)))
    inputs = (TensorSpec("x", "float32", (1, 3, 4, 4), (1, 3, 4, 4), (1, 3, 4, 4), (1, 3, 4, 4)),)
    model = onnx.load_from_string(naive_export(net.eval(), inputs, (1,), seed=0))
    assert [n.name for n in model.graph.node] == ["0/Conv_0", "1.0/Relu_1", "1.1/Conv_2"]


def test_a_node_without_a_module_keeps_its_name() -> None:
    graph = onnx.parser.parse_graph("g (float[1] x) => (float[1] y) { y = Neg(x) }")
    graph.node[0].name = "mine"
    model = onnx.helper.make_model(graph)
    name_by_module(model)
    assert model.graph.node[0].name == "mine"
