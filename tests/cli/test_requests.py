from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scconv_deploy.cli.requests import (
    budgets,
    choose_precision,
    compute_capabilities,
    default_out,
    existing,
    known_target,
    parse_form,
    parse_gate,
    positive_integers,
)
from scconv_deploy.config import Budgets, ErrorStat, Form, GateForm, Precision
from scconv_deploy.errors import InputError


def test_precision_from_name_or_alias() -> None:
    assert choose_precision(None, [("fp16", False)]) is Precision.FP32
    assert choose_precision("half", []) is Precision.FP16
    assert choose_precision(None, [("fp16", False), ("int8", True)]) is Precision.INT8
    assert choose_precision("fp16", [("fp16", True)]) is Precision.FP16


def test_contradicting_precisions_are_both_named() -> None:
    with pytest.raises(InputError, match=r"--precision fp32 and --int8 contradict"):
        choose_precision("fp32", [("fp16", False), ("int8", True)])


def test_compute_capabilities_in_every_spelling() -> None:
    assert compute_capabilities(None) == ()
    assert compute_capabilities("sm_89, 8.6,90,sm120,SM_89") == ("sm_89", "sm_86", "sm_90", "sm_120")
    for wrong in ("", "sm_", "ada", "8", "sm_89;sm_90"):
        with pytest.raises(InputError, match="compute capability"):
            compute_capabilities(wrong)


def test_lists_of_numbers() -> None:
    assert positive_integers("--batch", "1,8,1") == (1, 8)
    for wrong in ("", "0", "1,", "a", "-1", "1.5"):
        with pytest.raises(InputError, match="--batch"):
            positive_integers("--batch", wrong)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    assert existing(str(tmp_path / "weights.pt"), "the model") == tmp_path / "weights.pt"
    with pytest.raises(InputError, match=r"did you mean '.*weights\.pt'"):
        existing(str(tmp_path / "weigths.pt"), "the model")
    with pytest.raises(InputError, match="check the path"):
        existing(str(tmp_path / "zzz"), "the model")
    with pytest.raises(InputError, match="does not exist"):
        existing("a\0b", "the model")


def test_targets_and_forms_are_checked_by_name() -> None:
    assert known_target("onnx") == "onnx"
    assert parse_form("Plugin") is Form.PLUGIN
    with pytest.raises(InputError, match="did you mean 'trt'"):
        known_target("trtt")
    with pytest.raises(InputError, match="form 'fast' is unknown"):
        parse_form("fast")


def test_the_bundle_is_named_after_model_target_and_precision() -> None:
    assert default_out(Path("nets/digits.pt"), "trt", Precision.FP16) == Path("digits-trt-fp16")


def test_gate_by_name() -> None:
    assert parse_gate("Sigmoid") is GateForm.SIGMOID
    with pytest.raises(
        InputError, match="gate 'exakt' is unknown; choose one of exact, sigmoid; did you mean 'exact'"
    ):
        parse_gate("exakt")


def test_limits_for_all_and_for_single_outputs() -> None:
    found = budgets(1e-4, ["1e-3", "a:b:0.5"], ["logits:0.1"], "QUANTILE")
    assert found == Budgets(1e-4, {"": 1e-3, "a:b": 0.5}, {"logits": 0.1}, ErrorStat.QUANTILE)
    assert budgets(None, None, None, None) == Budgets()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((None, ["tight"], None, None), "--atol 'tight' is not a limit; write it like --atol 1e-3 or"),
        ((None, None, ["x:"], None), "--rtol 'x:' is not a limit"),
        ((None, ["x:1", "x:2"], None, None), "--atol is given twice for output 'x'"),
        ((None, ["1", "2"], None, None), "--atol is given twice for every output"),
        ((None, ["nan"], None, None), "must be a number of at least 0"),
        ((2.0, None, None, None), "share from 0 to 1"),
        ((None, None, None, "media"), "error statistic 'media' is unknown; .*did you mean 'median'"),
    ],
)
def test_wrong_limits_are_refused(arguments: tuple[Any, Any, Any, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        budgets(*arguments)
