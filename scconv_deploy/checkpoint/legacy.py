"""A legacy torch file of whole modules -> the same file without the source code it carries.

Before torch 1.6 every module's class was written as a persistent id ``("module", class, file, source)``, which
the restricted unpickler refuses. Each is rewritten as a call of :func:`container` with the same four values,
which returns the class; nothing else changes, and what may be constructed is still for the unpickler to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Kind = TypeVar("Kind")


def container(_word: str, kind: Kind, _file: str, _source: str) -> Kind:
    """The class of a legacy container; its source code is ignored."""
    return kind


NAME = f"{container.__module__}.{container.__qualname__}"


def without_sources(data: bytes, containers: Sequence[tuple[int, int]]) -> bytes:
    """Rewrite the persistent ids that begin and end at the given positions (see ``Outline.containers``)."""
    inserted = f"c{container.__module__}\n{container.__qualname__}\n".encode()
    changes = sorted([(mark, False) for mark, _ in containers] + [(end, True) for _, end in containers])
    parts, position = [], 0
    for place, is_end in changes:
        parts += [data[position:place], b"R" if is_end else inserted]
        position = place + 1 if is_end else place
    return b"".join([*parts, data[position:]])
