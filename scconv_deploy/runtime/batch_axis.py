"""A bundle's manifest -> whether its first axis is a free batch, for whoever puts requests together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def counts_samples(manifest: Mapping[str, Any]) -> bool:
    """Whether axis 0 of every input and output is the same free axis: the batch."""
    first = {
        str(t["shape"][0]) if t["shape"] and isinstance(t["shape"][0], str) else None
        for t in (*manifest["inputs"], *manifest["outputs"])
    }
    return len(first) == 1 and None not in first
