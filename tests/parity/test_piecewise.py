"""One block judged by itself: near-gate samples are excused, wrong ones are not, the edge input is exact."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch.nn import functional as F

from scconv_deploy.parity.block import edge_input
from scconv_deploy.parity.exact import Steps
from scconv_deploy.parity.structure import judge_samples
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.reference import constants
from scconv_deploy.scconv.spec import Norm
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.verdicts import Tolerance, Verdict
from tests.scconv.axes import sru
from tests.scconv.test_deploy import reference_of
from tests.scconv.test_emit import model_of

LIMIT = Tolerance("test", "max_abs", atol=0.01, rtol=0.0)
BAND = 1e-6
FAR, NEAR = 1.0, BAND / 2


def judged(errors: list[float], margins: list[float], real: int | None = None) -> Verdict:
    want = torch.zeros(len(errors), 2, 3, 3, dtype=torch.float64)
    got = want + torch.tensor(errors)[:, None, None, None]
    distance = torch.tensor(margins, dtype=torch.float64)[:, None, None, None]
    steps = Steps(None, distance, torch.ones_like(distance), None, None, want)
    return judge_samples(
        "block", want, got, steps, BAND, LIMIT, len(errors) if real is None else real
    ).verdict


@pytest.mark.parametrize(
    ("errors", "margins", "verdict"),
    [
        ([0, 0, 0], [FAR, FAR, FAR], Verdict.PASS),
        ([0, 1, 0], [FAR, FAR, FAR], Verdict.FAIL),
        ([0, 1, 0], [FAR, NEAR, FAR], Verdict.PASS),
        ([0, 1, 0], [NEAR, FAR, NEAR], Verdict.FAIL),
        ([1, 1, 1], [NEAR, NEAR, NEAR], Verdict.FAIL),  # every sample wrong: never excused
        ([0, 1, 0], [FAR, np.inf, FAR], Verdict.FAIL),
        ([0, np.nan, 0], [FAR, FAR, FAR], Verdict.FAIL),
    ],
)
def test_which_samples_are_excused(errors: list[float], margins: list[float], verdict: Verdict) -> None:
    assert judged(errors, margins) is verdict


def test_the_edge_input_alone_proves_nothing() -> None:
    assert judged([1, 1, 0], [NEAR, NEAR, FAR], real=2) is Verdict.FAIL
    assert judged([0, 1, 0], [NEAR, NEAR, FAR], real=2) is Verdict.PASS


SIZES = [(8, 8), (7, 7), (5, 11), (1, 6), (56, 56), (3, 3), (13, 17), (28, 28)]


@pytest.mark.parametrize("norm", Norm)
@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_the_edge_input_is_exact_in_onnx_runtime(norm: Norm, groups: int) -> None:
    """In fp32, where the input is 1 the emitted logit is exactly 0, at every size; elsewhere it is not."""
    module = reference_of(sru(norm=norm, groups=groups))
    assert module.sru is not None
    with torch.no_grad():
        module.sru.beta.zero_()
        module.sru.gamma.abs_().add_(0.1)
    deploy = DeploySCConv(module.spec, constants(module), GraphStyle()).float()
    model = model_of(deploy, 20, ("n", 8, "h", "w"))
    gate = next(n for n in model.graph.node if n.op_type.startswith("Greater"))
    model.graph.output.add().name = gate.input[0]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for h, w in SIZES:
        x = edge_input((2, 8, h, w), deploy.spec.sru)
        assert torch.equal(x.reshape(2, groups, -1).mean(dim=2), torch.ones(2, groups))
        s = session.run([gate.input[0]], {"x": x.numpy()})[0]
        assert (s[x.numpy() == 1] == 0).all()
        assert (s[x.numpy() == 2] > 0).all()
        assert (s[x.numpy() == 0] < 0).all()


def test_halves_differ_where_a_gate_is_on_its_threshold() -> None:
    """Otherwise a hard gate's reconstruction would hide the decision."""
    x = edge_input((1, 8, 8, 8), None)
    a, b = x[:, :4], x[:, 4:]
    assert ((a == 1) & (b != 1)).sum() > 20
    assert float(F.group_norm(x, 1).std()) > 0.5
