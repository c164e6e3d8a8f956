"""Sample by sample, each against its own scale; what is not finite never passes."""

from __future__ import annotations

import pytest
import torch

from scconv_deploy.parity.samples import compare_samples, not_finite
from scconv_deploy.verdicts import Tolerance

LIMIT = Tolerance("test", "max_abs", 0.0, 0.1)
WANT = torch.tensor([[1.0, 2.0], [10.0, 20.0]])


def test_each_sample_has_its_own_limit() -> None:
    found = compare_samples(WANT, WANT + 0.5, LIMIT)
    assert found.errors == (0.5, 0.5)
    assert found.limits == pytest.approx((0.2, 2.0))
    assert found.passed == (False, True)
    assert found.worst == pytest.approx((0.5, 0.2))
    assert compare_samples(WANT, WANT + 0.5, LIMIT, torch.tensor([0.4, 0.0])).passed == (True, True)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_never_passes(bad: float) -> None:
    other = WANT.clone()
    other[1, 0] = bad
    assert compare_samples(WANT, other, LIMIT).passed == (True, False)
    assert compare_samples(other, WANT, LIMIT).passed == (True, False)
    assert compare_samples(other, other, LIMIT).passed == (True, False)
    assert "result" in str(not_finite(WANT, other))
    assert "truth" in str(not_finite(other, WANT))
    assert not_finite(WANT, WANT) is None


def test_shapes_and_tolerances_that_do_not_fit() -> None:
    assert compare_samples(WANT, WANT[:, :1], LIMIT).passed == (False, False)
    with pytest.raises(ValueError, match="p99_abs"):
        compare_samples(WANT, WANT, Tolerance("t", "p99_abs", 0, 0))
    with pytest.raises(ValueError, match="no samples"):
        compare_samples(WANT[:0], WANT[:0], LIMIT)
