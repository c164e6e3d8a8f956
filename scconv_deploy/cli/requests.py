"""Option texts -> checked configuration: everything that can be refused before torch is imported.

These checks cost milliseconds and the import of torch costs seconds, so a typing mistake is answered at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from scconv_deploy import registry
from scconv_deploy.config import Budgets, CalibMethod, ErrorStat, Form, GateForm, Precision, parse_precision
from scconv_deploy.errors import InputError, nearest


def choose_precision(name: str | None, aliases: Sequence[tuple[str, bool]]) -> Precision:
    """``--precision`` and the aliases that were given -> one precision.

    Raises:
        InputError: two of them contradict each other, or the name is unknown.
    """
    asked = [] if name is None else [(f"--precision {name}", parse_precision(name))]
    asked += [(f"--{alias}", parse_precision(alias)) for alias, given in aliases if given]
    if len({precision for _, precision in asked}) > 1:
        raise InputError(
            f"{' and '.join(option for option, _ in asked)} contradict each other; give one of them"
        )
    return asked[0][1] if asked else Precision.FP32


def known_target(name: str) -> str:
    """Check a target's name without importing its exporter. Raises as :func:`registry.exporter` does."""
    if name not in registry.targets():
        registry.exporter(name)
    return name


def parse_form(text: str) -> Form:
    """Name -> Form, with the nearest valid name on a miss."""
    return Form(_one_of("form", text, [form.value for form in Form]))


def parse_gate(text: str) -> GateForm:
    """Name -> GateForm, with the nearest valid name on a miss."""
    return GateForm(_one_of("gate", text, [form.value for form in GateForm]))


def parse_calib_method(text: str) -> CalibMethod:
    """Name -> CalibMethod, with the nearest valid name on a miss."""
    return CalibMethod(_one_of("calibration method", text, [method.value for method in CalibMethod]))


def budgets(
    max_flip_rate: float | None,
    atol: Sequence[str] | None,
    rtol: Sequence[str] | None,
    check_error_stat: str | None,
) -> Budgets:
    """The limits a user gave, as Polygraphy spells them: ``1e-3`` for every output, ``name:1e-3`` for one.

    Raises:
        InputError: a value is no number, an output has two limits, or the statistic is unknown.
    """
    stat = None
    if check_error_stat is not None:
        known = [stat.value for stat in ErrorStat]
        stat = ErrorStat(_one_of("error statistic", check_error_stat, known))
    return Budgets(max_flip_rate, _limits("--atol", atol or ()), _limits("--rtol", rtol or ()), stat)


def _limits(option: str, texts: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        # An output's name may hold colons itself; the number stands behind the last one.
        name, _, number = text.rpartition(":")
        try:
            value = float(number)
        except ValueError:
            raise InputError(
                f"{option} '{text}' is not a limit; write it like {option} 1e-3 or {option} output:1e-3"
            ) from None
        if name in found:
            raise InputError(f"{option} is given twice for {f'output {name!r}' if name else 'every output'}")
        found[name] = value
    return found


def _one_of(what: str, text: str, known: Sequence[str]) -> str:
    name = text.lower()
    if name not in known:
        raise InputError(
            f"{what} '{text}' is unknown; choose one of {', '.join(known)}{nearest(text, known)}"
        )
    return name


def compute_capabilities(text: str | None) -> tuple[str, ...]:
    """``"sm_89,8.6,sm_90"`` -> ``("sm_89", "sm_86", "sm_90")``; None -> ()."""
    if text is None:
        return ()
    return tuple(dict.fromkeys(_capability(part.strip()) for part in text.split(",")))


def positive_integers(option: str, text: str) -> tuple[int, ...]:
    """``"1,8"`` -> ``(1, 8)``."""
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text.strip()):
        raise InputError(f"'{text}' is not a list of positive numbers; write it like {option} 1,8")
    return tuple(dict.fromkeys(int(part) for part in text.strip().split(",")))


def existing(text: str, what: str) -> Path:
    """A path that must exist.

    Raises:
        InputError: it does not; the message names the nearest name in the same folder.
    """
    path = Path(text)
    try:
        if path.exists():
            return path
        folder = path.parent if path.parent.is_dir() else None
        names = [entry.name for entry in folder.iterdir()] if folder else []
    except (OSError, ValueError) as error:
        raise InputError(f"{what} '{text}' cannot be read: {error}") from error
    if folder is None:
        raise InputError(f"{what} '{text}' does not exist: there is no folder '{path.parent}'")
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{path.with_name(close[0])}'?" if close else "; check the path"
    raise InputError(f"{what} '{text}' does not exist{hint}")


def default_out(model: Path, target: str, precision: Precision) -> Path:
    """``nets/digits.pt``, onnx, fp32 -> ``digits-onnx-fp32`` in the current folder."""
    return Path(f"{model.stem or model.resolve().name}-{target}-{precision.value}")


def _capability(text: str) -> str:
    match = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)([af]?)", text.lower())
    if match is None:
        raise InputError(
            f"'{text}' is not a compute capability; write it like --compute-capability sm_89,sm_90"
        )
    return f"sm_{match[1]}{match[2]}{match[3]}"
