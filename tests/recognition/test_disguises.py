"""Other formulas for the same function: recognised, since numbers decide and not the operators used."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scconv_deploy.recognition.walk import recognise
from scconv_deploy.scconv.deploy import DeploySCConv
from tests.recognition.near_misses import (
    C,
    Plain,
    Row,
    by_hand,
    changed,
    fuse_with,
    importance_by,
    pooled,
    score_by,
)


def hard(mask: Callable[[Tensor], Tensor]) -> Callable[[Plain, Tensor], Tensor]:
    """A spatial unit with a hard gate that asks ``mask`` about the logit."""

    def spatial(self: Plain, x: Tensor) -> Tensor:
        kept = mask(self.norm(x) * self.importance().view(1, -1, 1, 1))
        return self.rebuild(torch.where(kept, x, 0 * x), torch.where(kept, 0 * x, x))

    return spatial


def by_exp(self: Plain, y: Tensor) -> Tensor:
    e = pooled(y).exp()
    return e / e.sum(1, keepdim=True)


def arithmetic_masks(self: Plain, r: Tensor) -> tuple[Tensor, Tensor]:
    low = (r <= 0.5).to(r.dtype)
    return (1 - low) + low * r, low * r


DISGUISES: list[tuple[Row, str]] = [
    (("logit > 0", changed(spatial=hard(lambda s: s > 0))), "gt"),
    (("logit >= 0", changed(spatial=hard(lambda s: s >= 0))), "ge"),
    (("not logit < 0", changed(spatial=hard(lambda s: ~(s < 0)))), "ge"),
    (("tanh > 0", changed(spatial=hard(lambda s: torch.tanh(s) > 0))), "gt"),
    (("hard-sigmoid >= 1/2", changed(spatial=hard(lambda s: F.hardsigmoid(s) >= 0.5))), "ge"),
    (
        (
            "hard gate, gamma over its mean",
            changed(importance=importance_by(torch.mean), spatial=hard(lambda s: torch.sigmoid(s) > 0.5)),
        ),
        "gt",
    ),
    (("sigmoid by exp", changed(score=score_by(lambda s: 1 / (1 + torch.exp(-s))))), "gt"),
    (("sigmoid by tanh", changed(score=score_by(lambda s: 0.5 * (1 + torch.tanh(s / 2))))), "gt"),
    (
        ("group norm per channel", changed(norm=by_hand(lambda z: z.std((3, 4), keepdim=True), (3, 4)))),
        "gt",
    ),
    (("softmax by exp", changed(attention=by_exp)), "gt"),
    (
        (
            "pair softmax by sigmoids",
            changed(fuse=fuse_with(lambda q1, q2: (torch.sigmoid(q1 - q2), torch.sigmoid(q2 - q1)))),
        ),
        "gt",
    ),
    (("masks by arithmetic", changed(masks=arithmetic_masks)), "gt"),
]


@pytest.mark.parametrize(
    ("make", "comparison"), [(row[1], sign) for row, sign in DISGUISES], ids=[row[0] for row, _ in DISGUISES]
)
def test_the_function_is_recognised_in_another_spelling(
    make: Callable[[], nn.Module], comparison: str
) -> None:
    torch.manual_seed(0)
    module = make()
    found = recognise(module)
    assert [b.path for b in found.blocks] == [""], found.left_as_is
    block = found.blocks[0]
    assert block.spec.sru is not None
    assert block.spec.sru.comparison == comparison
    twin = module.double()
    tensors = twin.state_dict()
    deployed = DeploySCConv(block.spec, {role: tensors[name] for role, name in block.parameters.items()})
    x = torch.randn(2, C, 9, 6, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(deployed(x), twin(x), rtol=1e-9, atol=1e-9)
