"""The recorded surfaces of several TensorRT versions -> what exists in which, and what a call gives.

``tests/golden/bindings/surface.txt`` holds one line per name, behind one flag per version in the order of its
heading; ``python -m tests.exporters.bindings.record`` rewrites it from the real wheels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

GOLDEN = Path(__file__).parents[2] / "golden" / "bindings" / "surface.txt"
COMMAND = "python -m tests.exporters.bindings.record"
RTX = "tensorrt_rtx"
LINE = re.compile(
    r"(?P<name>[\w.]+)(?P<forms>\(.*\))?(?: -> (?P<result>\S+)|: (?P<kind>.+)| = (?P<value>.+))?$"
)


@dataclass(slots=True)
class Version:
    """One version: (owner, name) -> the class of what it gives ("" where that is none of its classes)."""

    label: str
    gives: dict[tuple[str, str], str] = field(default_factory=dict)
    forms: dict[tuple[str, str], tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    bases: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def rtx(self) -> bool:
        """Whether this is TensorRT for RTX."""
        return self.label.startswith(RTX)

    def found(self, owner: str, name: str) -> tuple[str, str] | None:
        """The key under which ``owner`` or one of its bases holds ``name``."""
        if (owner, name) in self.gives:
            return owner, name
        for base in self.bases.get(owner, ()):
            key = self.found(base, name)
            if key is not None:
                return key
        return None


@dataclass(frozen=True, slots=True)
class Contract:
    """Several versions at once."""

    versions: tuple[Version, ...]

    def has(self, owner: str, name: str) -> tuple[bool, ...]:
        """Per version, whether ``owner.name`` exists."""
        return tuple(v.found(owner, name) is not None for v in self.versions)

    def classes(self) -> set[str]:
        """Every class of any version."""
        return set().union(*(v.bases for v in self.versions))

    def gives(self, owner: str, name: str) -> str:
        """The class that ``owner.name`` is, or that calling it returns; "" where none is known."""
        for version in reversed(self.versions):
            key = version.found(owner, name)
            if key is not None and version.gives[key]:
                return version.gives[key]
        return ""

    def forms(self, owner: str, name: str) -> set[tuple[str, ...]]:
        """Every known list of parameter names of a method, over all versions."""
        keys = [(v, v.found(owner, name)) for v in self.versions]
        return {form for v, key in keys if key for form in v.forms.get(key, ())}


def read(lines: Iterable[str], label: str) -> Version:
    """One version's surface, as :mod:`tests.exporters.bindings.surface` writes it."""
    version = Version(label)
    for line in lines:
        found = LINE.match(line)
        assert found, f"not a line of a surface: {line}"
        owner, _, name = found["name"].rpartition(".")
        kind, value = found["kind"] or "", found["value"] or ""
        if not owner and kind.startswith("class"):
            version.bases[name] = tuple(
                filter(None, kind.removeprefix("class").removeprefix(" of ").split(", "))
            )
        version.gives[owner, name] = found["result"] or kind or value.removeprefix("class ")
        forms = [f for f in re.findall(r"\(([^)]*)\)", found["forms"] or "") if f != "?"]
        version.forms[owner, name] = tuple(tuple(filter(None, f.split(", "))) for f in forms)
    for key, given in version.gives.items():
        # pybind gives C++'s name of a class that it learned of later: IParserError is ParserError in Python.
        version.gives[key] = next((g for g in (given, given[1:]) if g in version.bases), "")
    return version


@cache
def golden() -> Contract:
    """The recorded contract."""
    text = [line for line in GOLDEN.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    labels = text[0].removeprefix("versions: ").split(", ")
    rows = [line.split(" ", 1) for line in text[1:]]
    return Contract(
        tuple(read((row for flags, row in rows if flags[i] == "1"), label) for i, label in enumerate(labels))
    )


def merged(surfaces: Mapping[str, Sequence[str]]) -> str:
    """The golden file's text, from surfaces by version."""
    lines = sorted({line for surface in surfaces.values() for line in surface})
    sets = [set(surface) for surface in surfaces.values()]
    rows = (f"{''.join('1' if line in s else '0' for s in sets)} {line}" for line in lines)
    return "\n".join([f"# {COMMAND}", f"versions: {', '.join(surfaces)}", *rows]) + "\n"
