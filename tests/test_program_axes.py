"""What a program fixes stays fixed; what it leaves free takes the user's numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.config import ShapeRange
from scconv_deploy.errors import InputError
from scconv_deploy.inputs import settle
from scconv_deploy.program_axes import UNBOUNDED, within_program

FIXED = TensorSpec("x", "float32", (1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 8))
FREE = TensorSpec("x", "float32", ("N", 3, "H", 8), (1, 3, 1, 8), (0, 3, 0, 8), (UNBOUNDED, 3, UNBOUNDED, 8))


def given(*shape: int) -> ShapeRange:
    return ShapeRange("x", shape, shape, shape)


def test_a_fixed_batch_is_never_opened() -> None:
    (spec,) = settle(nn.Identity(), (FIXED,), (), None, dynamic_batch=True)
    assert spec.shape == spec.maximum == (1, 3, 8, 8)


def test_a_free_batch_is_opened_and_a_free_height_needs_a_number() -> None:
    with pytest.raises(InputError, match="free axes"):
        settle(nn.Identity(), (FREE,), (), None, dynamic_batch=True)
    (spec,) = settle(nn.Identity(), (FREE,), (given(2, 3, 16, 8),), None, dynamic_batch=True)
    assert spec.shape == ("batch", 3, 16, 8)
    assert (spec.minimum, spec.optimum, spec.maximum[0]) == ((1, 3, 16, 8), (2, 3, 16, 8), UNBOUNDED)


def test_example_inputs_say_shapes() -> None:
    (spec,) = settle(nn.Identity(), (FREE,), (), [torch.zeros(2, 3, 4, 8)], dynamic_batch=False)
    assert spec.shape == (2, 3, 4, 8)


def test_what_the_program_does_not_take_is_refused() -> None:
    with pytest.raises(InputError, match="axis 1 of input 'x' is 3"):
        within_program(FREE, given(1, 4, 8, 8))
    with pytest.raises(InputError, match="4 axes in the program"):
        within_program(FREE, given(3, 8, 8))
