"""Rewrite the golden files: ``python -m tests.golden.regenerate``. Review the difference like code."""

from __future__ import annotations

from tests.golden.operators import FOLDER, SUBJECTS, comment, text_of


def main() -> None:
    """Write one file per subject."""
    for subject in SUBJECTS:
        (FOLDER / f"{subject}.txt").write_text(comment() + text_of(subject), encoding="utf-8")


if __name__ == "__main__":
    main()
