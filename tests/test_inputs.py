"""Inputs' shapes, names and dtypes are settled once; dynamic sizes end at what the model takes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.config import ShapeRange, shape_ranges
from scconv_deploy.errors import InputError
from scconv_deploy.inputs import (
    UNBOUNDED,
    example_tensors,
    fixed_batch,
    forward_names,
    run_once,
    settle,
)


class OneInput(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image


class TwoInputs(nn.Module):
    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return image * mask


class AnyInputs(nn.Module):
    def forward(self, *tensors: Tensor) -> Tensor:
        return tensors[0]


def ranges(*texts: str) -> tuple[ShapeRange, ...]:
    return shape_ranges(texts)


def test_a_shape_without_a_name_means_the_only_input() -> None:
    (spec,) = settle(OneInput(), (), ranges("1x3x8x8"), None, dynamic_batch=True)
    assert spec == TensorSpec(
        "image", "float32", ("batch", 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 8), (UNBOUNDED, 3, 8, 8)
    )


def test_a_static_batch_where_the_target_wants_it() -> None:
    (spec,) = settle(OneInput(), (), ranges("4x3x8x8"), None, dynamic_batch=False)
    assert spec.shape == (4, 3, 8, 8)


def test_named_shapes_in_any_order() -> None:
    specs = settle(TwoInputs(), (), ranges("image:1x3x8x8", "mask:1x1x8x8"), None, dynamic_batch=False)
    assert [s.name for s in specs] == ["image", "mask"]
    swapped = settle(TwoInputs(), (), ranges("mask:1x1x8x8", "image:1x3x8x8"), None, dynamic_batch=False)
    assert swapped == specs


@pytest.mark.parametrize(
    ("module", "given", "message"),
    [
        (OneInput(), (), "give it, for example --input-shape"),
        (OneInput(), ("imgae:1x3x8x8",), "no input 'imgae'.*did you mean 'image'"),
        (TwoInputs(), ("image:1x3x8x8", "musk:1x1x8x8"), "no input 'musk'.*did you mean 'mask'"),
        (TwoInputs(), ("image:1x3x8x8",), "mask"),
        (TwoInputs(), ("1x3x8x8",), "mask"),
        (OneInput(), ("image:1x3x8x8", "mask:1x1x8x8"), "no input 'mask'"),
    ],
)
def test_names_that_do_not_fit(module: nn.Module, given: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settle(module, (), ranges(*given), None, dynamic_batch=True)


KNOWN = (TensorSpec("image", "float32", ("batch", 3, 8, 8)),)


def test_the_checkpoint_says_the_shape() -> None:
    (spec,) = settle(OneInput(), KNOWN, (), None, dynamic_batch=True)
    assert spec.shape == ("batch", 3, 8, 8)
    assert spec.optimum == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("1x3x8", "has 4 axes.*has 3"),
        ("1x1x8x8", "has 3 channels.*has 1"),
        ("picture:1x3x8x8", "no input 'picture'"),
    ],
)
def test_shapes_that_contradict_the_checkpoint(given: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        settle(OneInput(), KNOWN, ranges(given), None, dynamic_batch=True)


def test_free_axes_in_the_checkpoint_ask_for_a_shape() -> None:
    free = (TensorSpec("image", "float32", ("batch", 3, "height", "width")),)
    with pytest.raises(InputError, match=r"free axes.*--input-shape"):
        settle(OneInput(), free, (), None, dynamic_batch=True)
    (spec,) = settle(OneInput(), free, ranges("1x3x8x8"), None, dynamic_batch=True)
    assert spec.optimum == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.float32, "float32"), (torch.float16, "float32"), (torch.int64, "int64"), (torch.bool, "bool")],
)
def test_examples_say_shape_and_dtype(dtype: torch.dtype, name: str) -> None:
    (spec,) = settle(OneInput(), (), (), [torch.ones(2, 3, dtype=dtype)], dynamic_batch=True)
    assert (spec.name, spec.dtype, spec.shape) == ("image", name, ("batch", 3))


def test_a_scalar_input_has_no_batch() -> None:
    specs = settle(TwoInputs(), (), (), [torch.ones(2, 3), torch.tensor(2.0)], dynamic_batch=True)
    assert specs[1].shape == ()
    assert example_tensors(specs, 0)[1].shape == ()


def test_an_input_of_another_leading_size_is_no_batch() -> None:
    """Only inputs that share the first one's leading size share its batch axis."""
    specs = settle(TwoInputs(), (), (), [torch.ones(2, 3), torch.ones(7, 3)], dynamic_batch=True)
    assert [s.shape for s in specs] == [("batch", 3), (7, 3)]


def test_more_examples_than_names() -> None:
    specs = settle(AnyInputs(), (), (), [torch.ones(1), torch.ones(1)], dynamic_batch=False)
    assert [s.name for s in specs] == ["input_0", "input_1"]
    assert forward_names(AnyInputs()) == []


def test_examples_are_seeded_and_of_the_dtype() -> None:
    specs = settle(
        TwoInputs(), (), (), [torch.ones(4, 3), torch.ones(4, 3, dtype=torch.int64)], dynamic_batch=True
    )
    first, again, other = (example_tensors(specs, seed) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert first[1].dtype is torch.int64
    assert set(first[1].unique().tolist()) <= {0, 1}


def test_a_model_that_refuses_its_input_is_named_in_words() -> None:
    specs = settle(OneInput(), (), ranges("1x3x8x8"), None, dynamic_batch=False)
    with pytest.raises(InputError, match=r"image \(1, 3, 8, 8\)\): RuntimeError: .*--input-shape"):
        run_once(nn.Conv2d(4, 4, 3), example_tensors(specs, 0), specs)


def test_inputs_of_different_ranges_have_different_symbols() -> None:
    given = shape_ranges(
        (),
        ["image:1x3x8x8", "mask:1x1x4x4"],
        ["image:1x3x8x8", "mask:1x1x4x4"],
        ["image:2x3x16x16", "mask:2x1x8x8"],
    )
    image, mask = settle(TwoInputs(), (), given, None, dynamic_batch=True)
    assert image.shape == ("batch", 3, "image_height", "image_width")
    assert mask.shape == ("batch", 1, "mask_height", "mask_width")


def test_inputs_of_one_range_share_their_symbols() -> None:
    given = shape_ranges((), ["image:1x3x8x8", "mask:1x1x8x8"], (), ["image:2x3x16x16", "mask:2x1x16x16"])
    image, mask = settle(TwoInputs(), (), given, None, dynamic_batch=True)
    assert image.shape[2:] == mask.shape[2:] == ("height", "width")


def test_the_batch_can_be_fixed_again() -> None:
    specs = settle(OneInput(), (), ranges("4x3x8x8"), None, dynamic_batch=True)
    assert fixed_batch(specs) == settle(OneInput(), (), ranges("4x3x8x8"), None, dynamic_batch=False)
