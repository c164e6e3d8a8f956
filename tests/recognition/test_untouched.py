"""Recognition leaves no trace: not in the user's module, not in any random state."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from scconv_deploy.stages import recognise
from tests.recognition import wild
from tests.recognition.odd_forwards import FORWARDS
from tests.recognition.photograph import photograph
from tests.recognition.test_hosts_structure import C, Deep, hooked


@pytest.mark.parametrize(
    "make",
    [
        lambda: Deep().train(),
        lambda: Deep().half().eval(),
        lambda: hooked(),
        lambda: nn.Sequential(*(make() for _, make in FORWARDS)),
        lambda: nn.Sequential(wild.Counting(C), wild.LazyLayer(C), wild.BuildsInForward(C)),
    ],
    ids=["training", "half", "hooks", "misbehaving forwards", "stateful forwards"],
)
def test_the_users_module_is_never_modified(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    module = make()
    before = photograph(module)
    recognise.run(module)
    after = photograph(module)
    for what, value in before.items():
        assert after[what] == value, what


def test_the_photograph_shows_a_modification() -> None:
    """The broken twin of the test above: every kind of change is seen."""
    torch.manual_seed(0)
    changes: list[tuple[str, Callable[[nn.Module], object]]] = [
        ("bytes", lambda m: m.stem.weight.data.view(-1)[0].add_(1e-3)),  # type: ignore[operator, union-attr]
        ("modules", lambda m: m.eval()),
        ("objects", lambda m: m.double()),
        ("hooks", lambda m: m.register_forward_hook(lambda *_: None)),
        ("attributes", lambda m: setattr(m, "note", 1)),
        ("random", lambda _: torch.randn(1)),
    ]
    for what, change in changes:
        module = Deep().train()
        before = photograph(module)
        change(module)
        assert photograph(module)[what] != before[what], what
