"""A manifest's record of ``--autotune`` -> what was chosen, counted in blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.tuning.record import RULE, TimedForm, TunedBlock, Tuning
from tests.bench.autotune import choices, same_graph

FORMS = (TimedForm(RULE, 1.0, 1.0, 1.0, 1.0), TimedForm("dense Y1", 0.8, 0.8, 0.79, 0.82))


def manifest() -> dict[str, object]:
    blocks = (
        TunedBlock(("a", "b", "c"), (1, 8, 4, 4), "dense Y1", 20, FORMS),
        TunedBlock(("d",), (1, 16, 4, 4), RULE, 20, FORMS),
        TunedBlock(("e", "f"), (1, 32, 4, 4), RULE),
    )
    return {"autotune": Tuning({"a": GraphStyle()}, blocks, "ONNX Runtime", 2, 60.0, 59.5).to_json()}


def test_blocks_are_counted_by_their_form_and_times_are_kept() -> None:
    found = choices(manifest())
    assert found["blocks_by_form"] == {"dense Y1": 3, RULE: 3}
    assert (found["threads"], found["budget_s"], found["seconds"]) == (2, 60.0, 59.5)
    rows = found["blocks"]
    assert isinstance(rows, list)
    assert rows[0] == {
        "block": "a",
        "alike": 3,
        "shape": (1, 8, 4, 4),
        "rounds": 20,
        "chosen": "dense Y1",
        "ratio_to_rule": {"dense Y1": [0.8, 0.79, 0.82]},
    }
    assert isinstance(rows[2], dict)
    assert rows[2]["ratio_to_rule"] == {}


@pytest.mark.parametrize("bare", [{}, {"autotune": None}])
def test_a_bundle_without_a_record_is_an_error(bare: dict[str, object]) -> None:
    with pytest.raises(LookupError, match="without --autotune"):
        choices(bare)


def test_bundles_hold_the_same_graph_where_their_files_are_equal(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes(content)
    assert same_graph(tmp_path / "a", tmp_path / "b")
    assert not same_graph(tmp_path / "a", tmp_path / "c")
