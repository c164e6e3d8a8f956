"""A record survives the manifest, numbers stay numbers, and its sentence says what was chosen."""

from __future__ import annotations

import json

from scconv_deploy.report.to_json import to_json
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.tuning.record import (
    RULE,
    TimedForm,
    TunedBlock,
    Tuning,
    style_from_json,
    styles_from_json,
)

STYLE = GraphStyle(shared_rest=True, dense_y1_below=2**31, cru_convolutions=3)
FORMS = (TimedForm(RULE, 1.0, 1.0, 1.0, 1.0), TimedForm("dense Y1", 0.7, 0.71, 0.7, 0.72))
TUNING = Tuning(
    styles={"a": STYLE, "b": STYLE, "c": GraphStyle(), "d": GraphStyle()},
    blocks=(
        TunedBlock(("a", "b"), (1, 8, 4, 4), "dense Y1", 9, FORMS),
        TunedBlock(("c",), (1, 8, 2, 2), RULE, 9, FORMS),
        TunedBlock(("d",), (1, 8, 1, 1), RULE),
    ),
    runtime="ONNX Runtime",
    threads=2,
    budget_s=10.0,
    seconds=9.6,
)


def test_the_styles_come_back() -> None:
    stored = json.loads(json.dumps(to_json(TUNING.to_json())))
    assert styles_from_json(stored) == TUNING.styles
    assert styles_from_json(None) == {}
    stored["styles"]["a"]["shared_rest"] = False  # the twin
    assert styles_from_json(stored) != TUNING.styles


def test_numbers_are_not_read_as_switches() -> None:
    style = style_from_json({"cru_convolutions": 3, "dense_y1_below": 16, "of_a_later_version": 1})
    assert style == GraphStyle(cru_convolutions=3, dense_y1_below=16)
    assert type(style.cru_convolutions) is int


def test_the_sentence() -> None:
    assert TUNING.sentence == (
        "2 different blocks timed in 10 s on 2 threads: 1 keep the rule's form; "
        "a and 1 more: dense Y1 (0.71 of the rule's time); 1 not timed"
    )
