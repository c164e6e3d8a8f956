"""Our dataclasses -> strict JSON, and a parity report back again.

JSON has no NaN and no infinity, so these travel as the strings "nan", "inf" and "-inf"; enums travel as
their values, paths as text, tuples as lists. The text that comes out is accepted by every strict parser.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath

from scconv_deploy.artifacts import Json
from scconv_deploy.errors import InputError
from scconv_deploy.verdicts import (
    Budget,
    Comparison,
    GateCheck,
    MarginBin,
    ParityReport,
    PieceCheck,
    TaskMetric,
    TensorMetrics,
    Tolerance,
    UnitCheck,
    Verdict,
)


def to_json(value: object) -> Json:
    """Any of our values -> JSON values.

    Raises:
        TypeError: ``value`` holds something that has no JSON form (a tensor, say): a programming mistake,
            so it is named by its type and not turned into text silently.
    """
    if isinstance(value, Enum):
        return to_json(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(to_json(k)): to_json(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    if isinstance(value, set | frozenset):
        return [to_json(v) for v in sorted(value, key=str)]
    raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} has no JSON form")


def dumps(value: object, indent: int | None = None) -> str:
    """Strict JSON text of ``value`` (ASCII only, so that any terminal or log carries it)."""
    return json.dumps(to_json(value), allow_nan=False, indent=indent)


def number(value: Json) -> float:
    """A JSON number or one of "nan", "inf", "-inf" -> float. Raises InputError for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value in ("nan", "inf", "-inf"):
        return float(value)
    raise InputError(f"{value!r} stands where a manifest must hold a number")


def parity_from_json(data: Json) -> ParityReport:
    """Inverse of :func:`to_json` for a ParityReport (a manifest's ``verification``).

    Bundles written before verification watched the gates have no ``pieces``, ``precision``, ``budgets``,
    ``task`` or ``pytorch_same_precision``, and pieces without ``gate``, ``units`` or ``operator``; these then
    take the dataclass's defaults.

    Raises:
        InputError: the data are not a parity report.
    """
    try:
        report = _mapping(data)
        return ParityReport(
            verdict=Verdict(_text(report["verdict"])),
            sentence=_text(report["sentence"]),
            subject=_text(report["subject"]),
            tolerance=_tolerance(_mapping(report["tolerance"])),
            comparisons=_comparisons(report["comparisons"]),
            against_float64=_comparisons(report["against_float64"]),
            reference_against_float64=_comparisons(report["reference_against_float64"]),
            pieces=tuple(_piece(_mapping(p)) for p in _list_or_none(report.get("pieces"))),
            first_divergent_block=_text_or_none(report["first_divergent_block"]),
            artifact_executed=bool(report["artifact_executed"]),
            notes=tuple(_text(n) for n in _list(report["notes"])),
            precision=_text(report.get("precision", "fp32")),
            budgets=tuple(_budget(_mapping(b)) for b in _list_or_none(report.get("budgets"))),
            task=None if report.get("task") is None else _task(_mapping(report["task"])),
            pytorch_same_precision=_comparisons(report.get("pytorch_same_precision") or []),
        )
    except (KeyError, TypeError, ValueError, OverflowError, InputError) as error:
        raise InputError(f"this is not a parity report: {error!r}") from error


def _tolerance(data: Mapping[str, Json]) -> Tolerance:
    return Tolerance(_text(data["name"]), _text(data["metric"]), number(data["atol"]), number(data["rtol"]))


def _comparisons(data: Json) -> tuple[Comparison, ...]:
    return tuple(_comparison(_mapping(item)) for item in _list(data))


def _comparison(data: Mapping[str, Json]) -> Comparison:
    return Comparison(
        case=_text(data["case"]),
        output=_text(data["output"]),
        shape=tuple(int(number(d)) for d in _list(data["shape"])),
        metrics=_metrics(_mapping(data["metrics"])),
        limit=number(data["limit"]),
        verdict=Verdict(_text(data["verdict"])),
        sentence=_text(data["sentence"]),
    )


def _metrics(data: Mapping[str, Json]) -> TensorMetrics:
    agreement = data["top1_agreement"]
    return TensorMetrics(
        max_abs=number(data["max_abs"]),
        mean_abs=number(data["mean_abs"]),
        p99_abs=number(data["p99_abs"]),
        max_rel=number(data["max_rel"]),
        cosine=number(data["cosine"]),
        sqnr_db=number(data["sqnr_db"]),
        top1_agreement=None if agreement is None else number(agreement),
        finite=bool(data["finite"]),
    )


def _piece(data: Mapping[str, Json]) -> PieceCheck:
    gate = data.get("gate")
    return PieceCheck(
        piece=_text(data["piece"]),
        verdict=Verdict(_text(data["verdict"])),
        samples=int(number(data["samples"])),
        passed_samples=int(number(data["passed_samples"])),
        near_gate_samples=int(number(data["near_gate_samples"])),
        max_abs=number(data["max_abs"]),
        limit=number(data["limit"]),
        sentence=_text(data["sentence"]),
        gate=None if gate is None else _gate(_mapping(gate)),
        units=tuple(_unit(_mapping(u)) for u in _list_or_none(data.get("units"))),
        operator=_text_or_none(data.get("operator")),
    )


def _gate(data: Mapping[str, Json]) -> GateCheck:
    pytorch = data["pytorch_flips"]
    return GateCheck(
        arithmetic=_text(data["arithmetic"]),
        gates=int(number(data["gates"])),
        flips=int(number(data["flips"])),
        flips_outside_band=int(number(data["flips_outside_band"])),
        band=number(data["band"]),
        farthest_flip=number(data["farthest_flip"]),
        histogram=tuple(_bin(_mapping(b)) for b in _list(data["histogram"])),
        pytorch_flips=None if pytorch is None else int(number(pytorch)),
        error_off_flips=_number_or_none(data["error_off_flips"]),
        error_forced=_number_or_none(data["error_forced"]),
        limit=number(data["limit"]),
    )


def _bin(data: Mapping[str, Json]) -> MarginBin:
    return MarginBin(number(data["below"]), int(number(data["gates"])), int(number(data["flips"])))


def _unit(data: Mapping[str, Json]) -> UnitCheck:
    return UnitCheck(
        unit=_text(data["unit"]),
        verdict=Verdict(_text(data["verdict"])),
        max_abs=number(data["max_abs"]),
        limit=number(data["limit"]),
        sentence=_text(data["sentence"]),
    )


def _budget(data: Mapping[str, Json]) -> Budget:
    return Budget(
        name=_text(data["name"]),
        limit=number(data["limit"]),
        found=number(data["found"]),
        kept=_truth(data["kept"]),
        sentence=_text(data["sentence"]),
    )


def _task(data: Mapping[str, Json]) -> TaskMetric:
    return TaskMetric(
        name=_text(data["name"]),
        reference=number(data["reference"]),
        artifact=number(data["artifact"]),
        samples=int(number(data["samples"])),
    )


def _mapping(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise TypeError(f"an object is needed, not {type(value).__name__}")
    return value


def _list(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise TypeError(f"a list is needed, not {type(value).__name__}")
    return value


def _list_or_none(value: Json) -> list[Json]:
    return [] if value is None else _list(value)


def _number_or_none(value: Json) -> float | None:
    return None if value is None else number(value)


def _truth(value: Json) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"true or false is needed, not {type(value).__name__}")
    return value


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a string is needed, not {type(value).__name__}")
    return value


def _text_or_none(value: Json) -> str | None:
    return None if value is None else _text(value)
