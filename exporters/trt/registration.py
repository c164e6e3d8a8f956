"""Functions by name -> plugin creators that the parser will find, in the process that builds.

A plugin must be registered in the very process that parses, so a build request names functions instead of
carrying objects: ``"exporters.trt.plugin:register"`` is imported where the build runs and called with the
TensorRT module, before the graph is parsed. What it returns is kept alive until the build is over.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

from scconv_deploy.errors import BuildError, ScconvDeployError, first_line


def register(names: Sequence[str], module: ModuleType) -> list[object]:
    """Import and call each ``package.module:function`` with ``module``.

    Raises:
        BuildError: it cannot be imported, or it failed; its own errors of this package go through.
    """
    kept = []
    for name in names:
        home, _, function = name.partition(":")
        try:
            called = getattr(importlib.import_module(home), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise BuildError(f"the plugin {name} cannot be imported: {first_line(error)}") from error
        try:
            kept.append(called(module))
        except ScconvDeployError:
            raise
        except Exception as error:
            raise BuildError(f"the plugin {name} could not be registered: {first_line(error)}") from error
    return kept
