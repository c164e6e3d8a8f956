"""A call goes to the profile that fits it whole and is nearest to its optimum; else a refusal says what fits."""

from __future__ import annotations

import pytest

from scconv_deploy.errors import InputError
from scconv_deploy.runtime.engine_profiles import Bounds, Profile, choose

SMALL: Profile = {"x": Bounds((1, 3), (1, 3), (4, 3)), "m": Bounds((1,), (1,), (4,))}
LARGE: Profile = {"x": Bounds((2, 3), (8, 3), (16, 3)), "m": Bounds((2,), (8,), (16,))}


@pytest.mark.parametrize(("rows", "wanted"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (16, 1)])
def test_the_nearest_of_those_that_fit(rows: int, wanted: int) -> None:
    assert choose((SMALL, LARGE), {"x": (rows, 3), "m": (rows,)}) == wanted
    assert choose((LARGE, SMALL), {"x": (rows, 3), "m": (rows,)}) == 1 - wanted


def test_two_inputs_must_fit_the_same_profile() -> None:
    with pytest.raises(
        InputError, match=r"no profile of this engine takes x 1x3, m 16 together; it takes profile 0"
    ):
        choose((SMALL, LARGE), {"x": (1, 3), "m": (16,)})


@pytest.mark.parametrize("shape", [(17, 3), (0, 3), (1, 4), (1, 3, 1), ()])
def test_a_shape_that_none_takes_is_refused_with_what_is_taken(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        InputError, match=r"input 'x' has shape .*; this engine takes 1x3 to 4x3; or 2x3 to 16x3"
    ):
        choose((SMALL, LARGE), {"x": shape, "m": (2,)})


def test_a_fixed_shape_is_written_once() -> None:
    assert str(Bounds((1, 3), (1, 3), (1, 3))) == "1x3"
