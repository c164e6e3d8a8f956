"""A manifest (or a part of one) -> typed reading that tolerates what is missing.

Reports must show bundles of older and newer versions, and bundles of targets that have no kernel report or
no verification. So a missing key, None or a value of an unexpected type reads as "not there", never as an
exception: a report that cannot be printed hides the one thing the user wanted to know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scconv_deploy.artifacts import Json
from scconv_deploy.errors import InputError
from scconv_deploy.report.to_json import number

UNBOUNDED = 2**31 - 1
"""A maximum that stands for "no upper bound" (an axis that ONNX leaves free)."""


@dataclass(frozen=True, slots=True)
class Section:
    """A JSON object, or nothing."""

    data: Mapping[str, Json]

    def __bool__(self) -> bool:
        return bool(self.data)

    def section(self, key: str) -> Section:
        """The object under ``key``; empty where there is none."""
        return as_section(self.data.get(key))

    def sections(self, key: str) -> tuple[Section, ...]:
        """The objects in the list under ``key``."""
        return tuple(as_section(item) for item in self.items(key) if isinstance(item, dict))

    def items(self, key: str) -> tuple[Json, ...]:
        """The list under ``key``; empty where there is none."""
        value = self.data.get(key)
        return tuple(value) if isinstance(value, list) else ()

    def texts(self, key: str) -> tuple[str, ...]:
        """The strings in the list under ``key``."""
        return tuple(item for item in self.items(key) if isinstance(item, str))

    def text(self, key: str) -> str | None:
        """The string under ``key``; numbers are written out."""
        value = self.data.get(key)
        if isinstance(value, str):
            return value or None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        return None

    def number(self, key: str) -> float | None:
        """The number under ``key``, "nan" and "inf" included."""
        try:
            return number(self.data.get(key))
        except InputError:
            return None

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Keys with their values as text, for keys that have one."""
        for key in self.data:
            value = self.text(key)
            if value is not None:
                yield key, value


def as_section(value: Json | Mapping[str, Json]) -> Section:
    """Wrap a JSON value; anything but an object becomes the empty section."""
    return Section(value if isinstance(value, Mapping) else {})


def size_text(size_bytes: float | None) -> str | None:
    """``77_500`` -> ``"77.5 kB"``; None stays None."""
    if size_bytes is None:
        return None
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.95 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable: GB takes every size")


def small(value: float | None) -> str:
    """Errors in three digits: ``1.2e-07``, ``0.0153``, ``0``; None as a dash."""
    return "-" if value is None else f"{value:.3g}"


def rate_text(value: float | None) -> str:
    """A share in three digits: ``0.000031 -> "0.0031%"``, ``0`` -> ``"0%"``; None as a dash.

    What is not quite all never reads as all: ``0.99996 -> ">99.9%"``.
    """
    if value is None:
        return "-"
    text = f"{value * 100:.3g}%"
    return ">99.9%" if text == "100%" and value < 1 else text


def percent_text(value: float | None) -> str:
    """A share with two decimals: ``0.997 -> "99.70%"``; what is not quite all reads ``>99.99%``."""
    if value is None:
        return "-"
    text = f"{value:.2%}"
    return ">99.99%" if text == "100.00%" and value < 1 else text


def shape_text(tensor: Section) -> str:
    """``images float32 [batch, 1, 32, 32]`` from a TensorSpec's JSON."""
    axes = ", ".join(str(axis) for axis in tensor.items("shape"))
    return f"{tensor.text('name') or '?'} {tensor.text('dtype') or '?'} [{axes}]"


def profile_text(tensor: Section) -> str | None:
    """``1x1x32x32 to 64x1x32x32, best at 8x1x32x32`` for a dynamic input; None for a fixed one."""
    low, best, high = (_extents(tensor.items(key)) for key in ("minimum", "optimum", "maximum"))
    if not low or not high or low == high:
        return None
    unbounded = " (N has no upper bound)" if "N" in high else ""
    return f"{low} to {high}{unbounded}" + (f", best at {best}" if best else "")


def plural(count: int, noun: str) -> str:
    """``1 block``, ``4 blocks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def join_names(names: Sequence[str], at_most: int = 4) -> str:
    """``a, b, c, d and 3 more``."""
    shown = ", ".join(names[:at_most])
    return shown if len(names) <= at_most else f"{shown} and {len(names) - at_most} more"


def _extents(axes: Sequence[Json]) -> str:
    return "x".join("N" if axis == UNBOUNDED else str(axis) for axis in axes)
