"""Run as a program: load and inspect every file named on standard input, in one process with little memory.

Reads one JSON object {name: path}; writes one JSON line per file and verb. A file that hangs is ended by the
alarm, and with it the process: the line that is missing names it.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnx  # noqa: F401 - what the verbs import lazily is mapped before the limit is set
import torch  # noqa: F401

from scconv_deploy.config import ExportConfig
from scconv_deploy.errors import ScconvDeployError
from scconv_deploy.stages import inspect, load

SECONDS = 20
ROOM = 1 << 30
TRUST = (
    "digits_net",
    "torch",
    "os",
    "posix",
    "subprocess",
    "builtins",
    "functools",
    "operator",
    "no_such_module",
)


def limited() -> None:
    """Leave a gigabyte of address space beyond what is mapped now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM,) * 2)


def outcome(verb: Callable[[], object]) -> dict[str, object]:
    """What a verb did with a file."""
    signal.alarm(SECONDS)
    start = time.monotonic()
    try:
        verb()
    except ScconvDeployError as error:
        return {"exit_code": error.exit_code, "sentence": str(error), "seconds": time.monotonic() - start}
    except BaseException as error:  # noqa: BLE001 - the test wants to hear of every other one
        return {"escaped": f"{type(error).__name__}: {error}"[:300]}
    finally:
        signal.alarm(0)
    return {"accepted": True}


def main() -> None:
    """Judge every file three times."""
    paths: dict[str, str] = json.load(sys.stdin)
    limited()
    plain = ExportConfig(target="onnx")
    trusting = ExportConfig(target="onnx", trust=TRUST)
    factory = ExportConfig(target="onnx", factory="scconv_resnet20")
    for name, path in paths.items():
        verbs: dict[str, Callable[[], object]] = {
            "inspect": lambda p=path: inspect.run(Path(p)),  # type: ignore[misc]
            "load": lambda p=path: load.run(Path(p), plain),  # type: ignore[misc]
            "load trusting": lambda p=path: load.run(Path(p), trusting),  # type: ignore[misc]
            "load with a factory": lambda p=path: load.run(Path(p), factory),  # type: ignore[misc]
        }
        for verb, run in verbs.items():
            print(json.dumps({"file": name, "verb": verb, **outcome(run)}), flush=True)


if __name__ == "__main__":
    main()
