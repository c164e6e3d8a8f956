"""The exported operator lists are as reviewed; ``python -m tests.golden.regenerate`` rewrites them."""

from __future__ import annotations

import pytest

from tests.golden.operators import FOLDER, SUBJECTS, text_of


@pytest.mark.parametrize("subject", SUBJECTS)
def test_operators_are_as_reviewed(subject: str) -> None:
    head, _, golden = (FOLDER / f"{subject}.txt").read_text(encoding="utf-8").partition("\n")
    assert head.startswith("# python -m tests.golden.regenerate; written with torch ")
    assert text_of(subject) == golden, f"the files were made with:\n{head}"


def test_no_golden_file_is_left_over() -> None:
    assert {p.stem for p in FOLDER.glob("*.txt")} == set(SUBJECTS)


def test_only_what_deployment_needs() -> None:
    """Whatever the versions: BN folded, no unrolled sums, no Where on this target."""
    for subject in SUBJECTS:
        text = text_of(subject)
        for unwanted in ("BatchNormalization", "Gather", "Where", "Loop", "If", "Unsqueeze", "Expand"):
            assert f" {unwanted}\n" not in text, f"{subject} holds {unwanted}"
