"""Several profiles: parsed, combined into an envelope, held against the model's inputs, written again."""

import pytest

from scconv_deploy.artifacts import ShapeBounds, TensorSpec
from scconv_deploy.config import Profile, shape_ranges
from scconv_deploy.errors import InputError
from scconv_deploy.parity.cases import make_cases
from scconv_deploy.shape_profiles import combine, parse_profiles, profile_words, with_profiles

TWO = parse_profiles(["x:1x3x64x64", "x:2x3x64x64/4x3x96x96/8x3x128x128"])
IMAGE = TensorSpec(
    "x", "float32", ("batch", 3, "height", "width"), (1, 3, 64, 64), (1, 3, 64, 64), (8, 3, 128, 128)
)


def _written(profiles: tuple[Profile, ...]) -> list[str]:
    return [word.removeprefix("--profile=") for word in profile_words(profiles)]


def test_texts_become_profiles_and_texts_again() -> None:
    texts = ["x:1x3x64x64", "x:2x3x64x64/4x3x96x96/8x3x128x128,mask:2x1/4x1/8x1", "1x2/2x2/3x2"]
    assert _written(parse_profiles(texts)) == texts
    assert parse_profiles(["x: 1x2 / 2x2 / 3x2"]) == parse_profiles(["x:1x2/2x2/3x2"])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["x:1x3/2x3"], "has 2 shapes; write --profile"),
        (["x:1x3/2x3/3x3/4x3"], "has 4 shapes"),
        (["x:one"], "'one' is not a shape"),
        (["x:1x0/1x1/1x1"], "axis of size 0"),
        (["x:4x3/2x3/8x3"], "1 <= min <= opt <= max"),
        (["x:1x3/2x3/4x3,x:8x3"], "profile 0 gives input x twice"),
        (["x:1x3/2x3x4/4x3"], "differ in rank"),
        ([""], "is not a shape"),
    ],
)
def test_texts_that_are_no_profile_are_answered_in_words(texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_profiles(texts)


def test_the_envelope_covers_every_profile_and_its_optimum_is_the_first_ones() -> None:
    shapes, profiles = combine((), TWO)
    assert profiles == TWO
    (envelope,) = shapes
    assert (envelope.minimum, envelope.optimum, envelope.maximum) == (
        (1, 3, 64, 64),
        (1, 3, 64, 64),
        (8, 3, 128, 128),
    )


def test_the_range_of_single_options_is_profile_0_and_fixed_inputs_stay_fixed() -> None:
    single = shape_ranges(["mask:1x9"], ["x:16x3x64x64"], ["x:16x3x64x64"], ["x:32x3x64x64"])
    shapes, profiles = combine(single, TWO)
    assert _written(profiles)[0] == "x:16x3x64x64/16x3x64x64/32x3x64x64"
    assert len(profiles) == 3
    assert {s.name: s.optimum for s in shapes} == {"x": (16, 3, 64, 64), "mask": (1, 9)}
    assert combine(single, ()) == (single, ())


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["x:1x3", "x:1x3"], r"profiles 0 and 1 are the same \(x:1x3\); leave one out"),
        (["x:1x3,y:1x2", "y:1x2,x:1x3"], "profiles 0 and 1 are the same"),
        (["x:1x3", "y:1x3"], "profile . has no range for input '.', and profile . has one"),
        (["x:1x3,y:1x3", "x:2x3"], "profile 1 has no range for input 'y', and profile 0 has one"),
        (["x:1x3", "x:1x3x4"], "input 'x' has 2 axes in profile 0 and 3 in profile 1"),
        ([f"x:{n}x3" for n in range(1, 18)], "17 profiles are more than the 16"),
    ],
)
def test_profiles_that_contradict_each_other_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        combine((), parse_profiles(texts))


def test_a_fixed_shape_beside_a_profile_of_the_same_input_is_refused() -> None:
    with pytest.raises(InputError, match="input 'x' is fixed to 1x3x64x64 by --input-shape and has a range"):
        combine(shape_ranges(["x:1x3x64x64"]), TWO)


def test_inputs_carry_every_profile() -> None:
    (spec,), notes = with_profiles([IMAGE], TWO)
    assert spec.profiles == (
        ShapeBounds((1, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 64)),
        ShapeBounds((2, 3, 64, 64), (4, 3, 96, 96), (8, 3, 128, 128)),
    )
    assert notes == []
    assert with_profiles([IMAGE], ()) == ((IMAGE,), [])


def test_overlaps_are_told_and_touching_is_an_overlap() -> None:
    _, notes = with_profiles(
        [IMAGE], parse_profiles(["x:1x3x64x64/2x3x64x64/4x3x64x64", "x:4x3x64x64/8x3x64x64/8x3x64x64"])
    )
    assert notes == [
        "profiles 0 and 1 overlap: a shape that fits both runs in the one whose optimum is nearer"
    ]


def test_heights_are_rounded_inwards_to_what_the_model_takes() -> None:
    spec = TensorSpec(
        "x", "float32", ("n", 3, "h", 64), (1, 3, 64, 64), (1, 3, 64, 64), (8, 3, 128, 64), {2: 32}
    )
    (made,), _ = with_profiles([spec], parse_profiles(["x:1x3x60x64/1x3x100x64/1x3x127x64"]))
    assert made.profiles == (ShapeBounds((1, 3, 64, 64), (1, 3, 96, 64), (1, 3, 96, 64)),)
    with pytest.raises(
        InputError, match="axis 2 of input 'x' 65 to 95, where the model takes only multiples of 32"
    ):
        with_profiles([spec], parse_profiles(["x:1x3x65x64/1x3x65x64/1x3x95x64"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y:1x3x64x64", r"no input 'y' \(it has x\)"),
        ("x:1x3x64x64/9x3x64x64/9x3x64x64", "axis 0 of input 'x' 1 to 9; the model takes 1 to 8"),
        ("x:1x3x32x64/1x3x64x64/1x3x64x64", "axis 2 of input 'x' 32 to 64; the model takes 64 to 128"),
    ],
)
def test_profiles_outside_the_model_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_profiles([IMAGE], parse_profiles([text]))


def test_inputs_that_share_an_axis_share_its_size_in_every_profile() -> None:
    pair = [TensorSpec(n, "float32", ("batch", 2), (1, 2), (1, 2), (8, 2)) for n in ("a", "b")]
    fine = parse_profiles(["a:1x2,b:1x2", "a:2x2/4x2/8x2,b:2x2/4x2/8x2"])
    assert len(with_profiles(pair, fine)[0][1].profiles) == 2
    with pytest.raises(InputError, match=r"profile 1 gives 'batch' 2/4/8 in input 'a' and 4/4/8 in 'b'"):
        with_profiles(pair, parse_profiles(["a:1x2,b:1x2", "a:2x2/4x2/8x2,b:4x2/4x2/8x2"]))


def test_every_case_of_the_verification_fits_a_profile() -> None:
    """Between a batch of 1 and one of 6 lie batches that the envelope has and no profile takes."""
    gap = parse_profiles(["x:1x3x64x64", "x:6x3x64x64/8x3x64x64/8x3x64x64"])
    (spec,), _ = with_profiles([IMAGE], gap)
    sizes = {len(case.inputs["x"]) for case in make_cases([spec], None, 0)}
    assert sizes == {1, 6, 8}
    assert {len(case.inputs["x"]) for case in make_cases([IMAGE], None, 0)} >= {3, 4}, (
        "this check cannot fail"
    )
