"""Size expressions: what torch writes passes, everything that computes more is refused before it is evaluated."""

from __future__ import annotations

import pytest
import sympy

from scconv_deploy.errors import InputError
from scconv_deploy.programs.expressions import refuse_code

GOOD = [
    "s0",
    "2*s0 + 1",
    "Symbol('s77', positive=True, integer=True)",
    "Add(Integer(1), Mul(Integer(2), Symbol('s0', integer=True)))",
    "FloorDiv(s0 - 1, 2) + 1",
    "Max(1, Min(s0, 64))",
    "Mul(Integer(-1), Pow(Symbol('s0'), Integer(2)))",
    "Eq(Mod(s0, 8), 0)",
    "s0**2",
    "-int_oo",
    "u0 <= 64",
]

BAD = [
    "__import__('os').system('true')",
    "s0.__class__",
    "open('x')",
    "[s0 for s0 in (1,)]",
    "lambda: 1",
    "Symbol('__import__')",
    "Symbol(open)",
    "Symbol('s0', positive=open)",
    "Add(*s0)",
    "Pow(9, Pow(9, 9))",
    "9**9**9",
    "2**1000",
    "eval",
    "s0[0]",
    "'s0'",
    "s0 if s0 else 1",
    "(s0 := 1)",
    "1" * 100,
    "(" * 500 + "1" + ")" * 500,
    "",
    "s0\x00",
    "\uff530",
]


@pytest.mark.parametrize("text", GOOD)
def test_sizes_pass(text: str) -> None:
    refuse_code(text)


@pytest.mark.parametrize("text", BAD)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="has the size"):
        refuse_code(text)


@pytest.mark.parametrize("value", [None, 3, ["s0"], {"s0": 1}])
def test_only_text_is_an_expression(value: object) -> None:
    with pytest.raises(InputError, match="no expression"):
        refuse_code(value)


def test_sympy_itself_evaluates_what_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    """The alarm rings: this is why the text is read first."""
    text = "print('evaluated')"
    with pytest.raises(InputError):
        refuse_code(text)
    sympy.sympify(text)
    assert capfd.readouterr().out == "evaluated\n"
