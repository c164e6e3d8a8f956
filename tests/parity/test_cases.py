"""Samples and seeds -> cases over batches and sizes; files that do not fit are refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.errors import InputError
from scconv_deploy.inputs import UNBOUNDED
from scconv_deploy.parity.cases import make_cases, read_samples

FREE = TensorSpec("image", "float32", ("batch", 1, 8, 8), (1, 1, 8, 8), (1, 1, 8, 8), (UNBOUNDED, 1, 8, 8))
STATIC = TensorSpec("image", "float32", (2, 1, 8, 8), (2, 1, 8, 8), (2, 1, 8, 8), (2, 1, 8, 8))
SIZES = TensorSpec(
    "image",
    "float32",
    ("batch", 1, "height", "width"),
    (1, 1, 32, 32),
    (2, 1, 64, 64),
    (4, 1, 128, 96),
    {2: 32, 3: 32},
)


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def samples(count: int) -> np.ndarray:
    return np.arange(count * 64, dtype=np.float32).reshape(count, 1, 8, 8)


@pytest.mark.parametrize("key", ["image", "inputs.image", "x"])
def test_arrays_are_found_by_name_or_as_the_only_fitting_one(key: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "s.npz", **{key: samples(3), "label": np.arange(3)})
    np.testing.assert_array_equal(read_samples(path, [FREE])["image"], samples(3))


def test_a_single_array(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", samples(2))
    assert read_samples(tmp_path / "s.npy", [FREE])["image"].shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (samples(2)[:, 0], "the first being the sample"),
        (np.zeros((2, 3, 8, 8), np.float32), "have 3 on axis 1; the model takes 1 to 1"),
        (np.zeros((2, 1, 8, 9), np.float32), "have 9 on axis 3"),
        (np.zeros((0, 1, 8, 8), np.float32), "no samples"),
        (np.zeros((2, 1, 8, 8), np.complex64), "are complex64; the model takes float32"),
    ],
)
def test_arrays_that_do_not_fit(array: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_samples(saved(tmp_path / "s.npz", image=array), [FREE])


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_samples(tmp_path / "nowhere.npz", [FREE])
    good = saved(tmp_path / "s.npz", image=samples(2)).read_bytes()
    for data in (b"", b"text", good[:-40], good[:200], b"PK\x03\x04"):
        (tmp_path / "bad.npz").write_bytes(data)
        with pytest.raises(InputError, match="not a readable"):
            read_samples(tmp_path / "bad.npz", [FREE])
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="not a readable"):
        read_samples(tmp_path / "objects.npy", [FREE])


def test_two_inputs_of_different_lengths(tmp_path: Path) -> None:
    other = TensorSpec("mask", "float32", FREE.shape, FREE.minimum, FREE.optimum, FREE.maximum)
    path = saved(tmp_path / "s.npz", image=samples(3), mask=samples(2))
    with pytest.raises(InputError, match="different numbers of samples"):
        read_samples(path, [FREE, other])
    with pytest.raises(InputError, match="no array 'mask'"):
        read_samples(saved(tmp_path / "t.npz", image=samples(3)), [FREE, other])


def test_every_sample_is_used_once() -> None:
    cases = [c for c in make_cases([FREE], {"image": samples(40)}, 0) if c.name.startswith("sample")]
    used = np.concatenate([c.inputs["image"] for c in cases])
    np.testing.assert_array_equal(used, samples(40))
    assert len({len(c.inputs["image"]) for c in cases}) >= 3  # several batch sizes


def test_one_sample_is_enough() -> None:
    cases = make_cases([FREE], {"image": samples(1)}, 0)
    assert cases[0].name == "sample 0"


def test_a_static_batch_takes_whole_batches() -> None:
    cases = make_cases([STATIC], {"image": samples(5)}, 0)
    assert {c.inputs["image"].shape for c in cases} == {(2, 1, 8, 8)}
    assert sum(c.name.startswith("samples") for c in cases) == 2


def test_random_cases_cover_the_profile_and_stay_inside() -> None:
    shapes = [c.inputs["image"].shape for c in make_cases([SIZES], None, 0)]
    assert len(set(shapes)) == len(shapes)
    assert len({s[0] for s in shapes}) >= 2
    assert {s[2:] for s in shapes} >= {(32, 32), (64, 64), (128, 96)}
    for n, c, h, w in shapes:
        assert 1 <= n <= 4
        assert c == 1
        assert h % 32 == w % 32 == 0
        assert (32 <= h <= 128, 32 <= w <= 96) == (True, True)


def test_cases_are_seeded() -> None:
    first, again, other = (make_cases([FREE], None, seed)[0].inputs["image"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
