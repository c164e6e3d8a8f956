"""What ``--autotune`` found, and its form in the manifest (JSON both ways)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from scconv_deploy.artifacts import Json
from scconv_deploy.scconv.style import GraphStyle

RULE = "rule"
"""Name of the form that the target's style gives without timing."""


@dataclass(frozen=True, slots=True)
class TimedForm:
    """A candidate as it was timed: median milliseconds per call, and the median over rounds of its time over the
    rule's in the same round, with its 95 % interval."""

    name: str
    milliseconds: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TunedBlock:
    """Equal blocks at equal input shapes, timed once. ``forms`` is empty where there was nothing to choose, or no
    time left; ``chosen`` is then the rule's form."""

    paths: tuple[str, ...]
    shape: tuple[int, ...]
    chosen: str
    rounds: int = 0
    forms: tuple[TimedForm, ...] = ()


@dataclass(frozen=True, slots=True)
class Tuning:
    """``styles``: block path -> style, for every block; the rule's where nothing was faster."""

    styles: Mapping[str, GraphStyle]
    blocks: tuple[TunedBlock, ...]
    runtime: str
    threads: int
    budget_s: float
    seconds: float
    machine: Mapping[str, Json] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What was chosen, for the run's line and the report's notes."""
        timed = [b for b in self.blocks if b.forms]
        other = [b for b in timed if b.chosen != RULE]
        late = sum(not b.forms for b in self.blocks)
        text = (
            f"{len(timed)} different blocks timed in {self.seconds:.0f} s on {self.threads} "
            f"thread{'' if self.threads == 1 else 's'}: {len(timed) - len(other)} keep the rule's form"
        )
        for block in other:
            ratio = next(f.ratio for f in block.forms if f.name == block.chosen)
            more = f" and {len(block.paths) - 1} more" if len(block.paths) > 1 else ""
            text += (
                f"; {block.paths[0] or 'the model'}{more}: {block.chosen} ({ratio:.2f} of the rule's time)"
            )
        return text + (f"; {late} not timed" if late else "")

    def to_json(self) -> dict[str, Any]:
        """For the manifest; :func:`styles_from_json` reads the styles back."""
        return {
            "runtime": self.runtime,
            "threads": self.threads,
            "budget_s": self.budget_s,
            "seconds": round(self.seconds, 3),
            "machine": dict(self.machine),
            "blocks": [asdict(block) for block in self.blocks],
            "styles": {path: asdict(style) for path, style in self.styles.items()},
        }


def style_from_json(data: Mapping[str, Any]) -> GraphStyle:
    """A style as ``asdict`` wrote it. Fields of later versions are left out, missing ones take their default:
    every style computes the same function in real arithmetic."""
    defaults = GraphStyle()
    known = {f.name: type(getattr(defaults, f.name)) for f in fields(GraphStyle)}
    return GraphStyle(**{name: known[name](value) for name, value in data.items() if name in known})


def styles_from_json(data: Mapping[str, Any] | None) -> dict[str, GraphStyle]:
    """Block path -> style of a manifest's ``autotune``; empty where it has none."""
    stored = (data or {}).get("styles", {})
    return {str(path): style_from_json(style) for path, style in stored.items()}
