"""Deployment export for PyTorch networks with SCConv (SRU + CRU) blocks.

The pipeline, in the order in which data flow::

    load -> recognise -> lower -> trace -> simplify -> quantize -> build -> verify -> benchmark -> package

Each word is a file in ``scconv_deploy/stages``; ``scconv_deploy/pipeline.py`` is the only caller.

The names below are loaded when first used: importing this package imports neither torch nor onnx, and
``open`` never needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scconv_deploy.api import benchmark, export, recognise, verify
    from scconv_deploy.artifacts import Bundle, Recognition
    from scconv_deploy.errors import (
        BuildError,
        CapabilityError,
        InputError,
        ScconvDeployError,
        VerificationError,
    )
    from scconv_deploy.runtime.engine import Engine
    from scconv_deploy.runtime.engine import open_bundle as open  # noqa: A004 - the contract's name
    from scconv_deploy.verdicts import ParityReport, Verdict

__version__ = "0.1.0"

_HOME = {
    "export": ("scconv_deploy.api", "export"),
    "recognise": ("scconv_deploy.api", "recognise"),
    "verify": ("scconv_deploy.api", "verify"),
    "benchmark": ("scconv_deploy.api", "benchmark"),
    "open": ("scconv_deploy.runtime.engine", "open_bundle"),
    "Engine": ("scconv_deploy.runtime.engine", "Engine"),
    "Bundle": ("scconv_deploy.artifacts", "Bundle"),
    "ParityReport": ("scconv_deploy.verdicts", "ParityReport"),
    "Recognition": ("scconv_deploy.artifacts", "Recognition"),
    "Verdict": ("scconv_deploy.verdicts", "Verdict"),
    "ScconvDeployError": ("scconv_deploy.errors", "ScconvDeployError"),
    "InputError": ("scconv_deploy.errors", "InputError"),
    "BuildError": ("scconv_deploy.errors", "BuildError"),
    "CapabilityError": ("scconv_deploy.errors", "CapabilityError"),
    "VerificationError": ("scconv_deploy.errors", "VerificationError"),
}

__all__ = [
    "BuildError",
    "Bundle",
    "CapabilityError",
    "Engine",
    "InputError",
    "ParityReport",
    "Recognition",
    "ScconvDeployError",
    "Verdict",
    "VerificationError",
    "__version__",
    "benchmark",
    "export",
    "open",
    "recognise",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'scconv_deploy' has no attribute '{name}'")
    module, attribute = _HOME[name]
    value: object = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
