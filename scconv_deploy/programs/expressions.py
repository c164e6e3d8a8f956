"""The text of a symbolic size -> accepted or refused, before torch hands it to sympy.

``sympy.sympify`` evaluates its text as Python, with the builtins in reach (``__import__('os').system(...)``
runs). What torch writes is narrow: integers, symbols such as ``s0``, sums, products, divisions and bounds,
either plain (``2*s0 + 1``) or spelled out (``Add(Integer(1), Mul(Integer(2), Symbol('s0', positive=True)))``).
"""

from __future__ import annotations

import ast
import re
import warnings

from scconv_deploy.errors import InputError

SYMBOL = re.compile(r"[a-z_]{1,20}[0-9]{1,9}")
MAX_LENGTH = 2000
MAX_NUMBER = 1 << 62
MAX_EXPONENT = 8

FUNCTIONS = frozenset(
    {
        "Add",
        "Mul",
        "Max",
        "Min",
        "Mod",
        "PythonMod",
        "FloorDiv",
        "CeilDiv",
        "CleanDiv",
        "Integer",
        "Symbol",
        "Pow",
    }
    | {"floor", "ceiling", "IntTrueDiv", "ToFloat", "TruncToInt", "CeilToInt", "FloorToInt", "PowByNatural"}
    | {
        "Rational",
        "Eq",
        "Ne",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "LessThan",
        "StrictLessThan",
        "GreaterThan",
        "And",
        "Or",
    }
    | {"StrictGreaterThan", "Equality", "Unequality", "Not", "Identity", "Abs"}
)
POWERS = frozenset({"Pow", "PowByNatural"})
INFINITE = frozenset({"int_oo", "oo", "true", "false"})
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.USub, ast.UAdd)
COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def refuse_code(text: object) -> None:
    """Raise unless ``text`` is a size expression of the grammar above.

    Raises:
        InputError: it is longer, or says anything else. The sentence has no subject: "has the size ...".
    """
    said = repr(text)[:60]
    if not isinstance(text, str) or len(text) > MAX_LENGTH or not text.isascii():
        raise InputError(f"has the size {said}, which is no expression torch writes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a literal that is called makes the compiler warn
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"has the size {said}, which is no expression torch writes") from error
    if not _allowed(tree.body):
        raise InputError(f"has the size {said}, which computes more than a size; it was not evaluated")


def _allowed(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and abs(node.value) <= MAX_NUMBER
    if isinstance(node, ast.Name):
        return node.id in INFINITE or SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, OPERATORS) and _allowed(node.operand)
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Pow):
            return _allowed(node.left) and _is_small(node.right)
        return isinstance(node.op, OPERATORS) and _allowed(node.left) and _allowed(node.right)
    if isinstance(node, ast.Compare):
        return all(isinstance(o, COMPARISONS) for o in node.ops) and all(
            _allowed(n) for n in (node.left, *node.comparators)
        )
    return isinstance(node, ast.Call) and _allowed_call(node)


def _allowed_call(node: ast.Call) -> bool:
    if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
        return False
    flags = all(
        k.arg in ("positive", "integer", "nonnegative", "real", "nonzero")
        and isinstance(k.value, ast.Constant)
        and isinstance(k.value.value, bool)
        for k in node.keywords
    )
    if not flags:
        return False
    if node.func.id == "Symbol":
        named = node.args[0] if len(node.args) == 1 else None
        return (
            isinstance(named, ast.Constant)
            and isinstance(named.value, str)
            and SYMBOL.fullmatch(named.value) is not None
        )
    if node.func.id in POWERS:
        return len(node.args) == 2 and _allowed(node.args[0]) and _is_small(node.args[1])
    return not node.keywords and all(_allowed(argument) for argument in node.args)


def _is_small(node: ast.expr) -> bool:
    """Whether an exponent is a small number: a tower of powers never ends."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _is_small(node.operand)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Integer":
        return len(node.args) == 1 and not node.keywords and _is_small(node.args[0])
    return isinstance(node, ast.Constant) and type(node.value) is int and abs(node.value) <= MAX_EXPONENT
