"""``python -m tests.gpu.check [--out FILE]``: everything that needs a GPU, in one go, as JSON.

1. Every kernel through the CUDA driver on random and edge inputs against float64 (``correctness.py``).
2. Times against a measured device copy and against ``torch.compile`` (``speed.py``).
3. Whether a TensorRT (for RTX) engine of a small SCConv network builds, loads and runs here, in both forms, and
   what its verification says (``engines.py``).

Exit code 0: all of it passed. 1: something was wrong or too slow. 3: there is no GPU here (one sentence).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scconv_deploy.errors import ScconvDeployError
from tests.gpu import correctness, engines, speed
from tests.gpu.driver import CudaDriver

DEFAULT = Path("gpu_check.json")


def main(argv: Sequence[str] | None = None, open_driver: Callable[[], Any] = CudaDriver) -> int:
    """Run the three parts, write the JSON, and say what failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.check", description="Check what needs a GPU.")
    parser.add_argument("--out", type=Path, default=DEFAULT, help="where the JSON goes")
    given = parser.parse_args(argv)
    try:
        driver = open_driver()
    except ScconvDeployError as error:
        print(f"no CUDA GPU can be used here, so nothing was checked: {error}", file=sys.stderr)
        return 3
    with driver:
        found: dict[str, Any] = {"gpu": driver.name}
        found["correctness"] = list(correctness.rows(driver))
        found["speed"] = list(speed.rows(driver))
    found["engines"] = engines.rows()
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    failures = failed(found)
    for line in failures:
        print(line)
    print(f"{given.out}: {driver.name}, {len(failures)} failures")
    return 1 if failures else 0


def failed(found: dict[str, Any]) -> list[str]:
    """One line per row whose ``passed`` is false; rows without a limit have none."""
    return [
        f"{part}: " + ", ".join(f"{k} {v}" for k, v in row.items() if k != "passed")
        for part in ("correctness", "speed", "engines")
        for row in found[part]
        if row.get("passed") is False
    ]


if __name__ == "__main__":
    sys.exit(main())
