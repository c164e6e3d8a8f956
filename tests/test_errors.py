from __future__ import annotations

import inspect

from scconv_deploy import errors


def test_every_error_has_an_exit_code_of_the_contract() -> None:
    tree = [e for _, e in inspect.getmembers(errors, inspect.isclass) if issubclass(e, Exception)]
    assert len(tree) >= 6
    for error in tree:
        assert issubclass(error, errors.ScconvDeployError)
        assert error.exit_code in (1, 2, 3)
    assert errors.VerificationError.exit_code == 1
    assert errors.CapabilityError.exit_code == 3
    assert errors.InputError.exit_code == errors.BuildError.exit_code == 2


def test_nearest_suggests_only_what_is_near() -> None:
    assert errors.nearest("onx", ["onnx", "trt"]) == "; did you mean 'onnx'?"
    assert errors.nearest("zzz", ["onnx", "trt"]) == ""


def test_a_verification_error_carries_its_report() -> None:
    report = object()
    assert errors.VerificationError("x", report).report is report
    assert errors.VerificationError("x").report is None
