"""This process -> its resident memory now and at its peak, in bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

STATUS = Path("/proc/self/status")


def resident() -> int:
    """Bytes resident now."""
    return int(psutil.Process().memory_info().rss)


def peak() -> int:
    """Highest resident size this process ever had; at least the present one."""
    if STATUS.exists():
        for line in STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return max(int(line.split()[1]) * 1024, resident())
    if sys.platform == "win32":
        return max(int(psutil.Process().memory_info().peak_wset), resident())
    import resource  # not on Windows

    # Linux gives kibibytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, resident())
