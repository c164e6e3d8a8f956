"""Thread counts change for a while only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from scconv_deploy.threads import SMALL, threads_for, torch_threads


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_the_count_is_restored_after_an_exception() -> None:
    def failing() -> None:
        with torch_threads(3):
            assert torch.get_num_threads() == 3
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        failing()
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("elements", "inside"), [([1, SMALL], 1), ([SMALL + 1, 1], 2), ([], 1)])
def test_small_work_gets_one_thread(elements: list[int], inside: int) -> None:
    with threads_for(elements):
        assert torch.get_num_threads() == inside
    assert torch.get_num_threads() == 2
