"""Sizes that were written into a graph are read from tensors again; at the old sizes nothing changes."""

from __future__ import annotations

import torch
from torch import nn

from scconv_deploy.programs.loosen import collapse_sums, loosen
from tests.programs.archives import X


class Views(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        y = x.view(n, 1, -1)
        y = y - y.mean(2, keepdim=True)
        return y.view(n, c, h, w)


def test_a_fixed_program_runs_at_other_sizes_afterwards() -> None:
    program = torch.export.export(Views(), (X,))
    loosen(program)
    module = torch.export.unflatten(program)
    module.check_input_constraints = False
    for shape in ((2, 3, 10, 12), (5, 3, 4, 6)):
        x = torch.randn(shape)
        torch.testing.assert_close(module(x), Views()(x))
    assert "view.default](args = (%sub, [2" not in str(program.graph)


class Sums(nn.Module):
    def __init__(self, keep: int = 6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6))
        self.keep = keep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (sum(self.weight) if self.keep == 6 else sum(self.weight[i] for i in range(self.keep)))


def test_an_unrolled_sum_becomes_one() -> None:
    net = Sums()
    program = torch.export.export(net, (X,))
    assert str(program.graph).count("aten.add.Tensor") == 6
    loosen(program)
    assert str(program.graph).count("aten.add.Tensor") == 0
    torch.testing.assert_close(program.module()(X), net(X))


def test_a_sum_over_a_part_is_left() -> None:
    """The broken twin: five of six elements are no sum of the whole."""
    net = Sums(keep=5)
    program = torch.export.export(net, (X,))
    before = str(program.graph).count("aten.add.Tensor")
    collapse_sums(program.graph)
    assert str(program.graph).count("aten.add.Tensor") == before > 0
    torch.testing.assert_close(program.module()(X), net(X))


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, third = torch.unbind(self.weight)
        return x * (0 + first + second + third + third)


def test_a_sum_with_an_element_twice_is_left() -> None:
    net = Doubled()
    program = torch.export.export(net, (X,))
    loosen(program)
    torch.testing.assert_close(program.module()(X), net(X))


class Casting(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.half().float() * (x > 0).float()


def test_casts_of_numbers_go_and_masks_stay() -> None:
    program = torch.export.export(Casting(), (X,))
    notes = loosen(program)
    assert notes[0].startswith("2 casts")
    module = torch.export.unflatten(program)
    torch.testing.assert_close(module(X), X * (X > 0), rtol=0, atol=0)


def test_a_mask_becomes_a_number_of_the_type_it_was_computed_from() -> None:
    program = torch.export.export(Casting(), (X,))
    loosen(program)
    module = torch.export.unflatten(program)
    assert module(X.half()).dtype == torch.float16
    torch.testing.assert_close(module(X.double()), X.double() * (X > 0), rtol=0, atol=0)
