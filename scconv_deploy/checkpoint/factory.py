"""The text of ``--factory`` -> the callable it names and literal keyword arguments; nothing is evaluated.

``package.module:callable``, ``package.module:callable(depth=20, width=8)``, or a zoo name with or without
settings: ``scconv_resnet20(width=8, num_classes=10)``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from scconv_deploy.checkpoint.read import import_named
from scconv_deploy.checkpoint.zoo_shapes import call_text
from scconv_deploy.errors import InputError, nearest
from scconv_deploy.scconv import zoo

_CALL = re.compile(r"\s*([A-Za-z_][\w.]*(?::[A-Za-z_][\w.]*)?)\s*(\(.*\))?\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Factory:
    """A parsed ``--factory``."""

    name: str
    arguments: Mapping[str, Any]

    @property
    def is_zoo(self) -> bool:
        """Whether it names an architecture of the zoo."""
        return self.name in zoo.ARCHITECTURES

    def __str__(self) -> str:
        return call_text(self.name, self.arguments)


def parse_factory(text: str) -> Factory:
    """Split name and arguments; raises InputError in words."""
    match = _CALL.fullmatch(text)
    if match is None or len(text) > 2000:
        raise InputError(
            f"--factory '{text[:80]}' is no callable; write it like package.module:callable, "
            "package.module:callable(depth=20), or a zoo name like scconv_resnet20(width=8)"
        )
    name, call = match[1], match[2]
    if name not in zoo.ARCHITECTURES and ":" not in name and "." not in name:
        raise InputError(
            f"--factory '{name}' is no zoo architecture ({', '.join(sorted(zoo.ARCHITECTURES))}) and names "
            f"no module{nearest(name, zoo.ARCHITECTURES)}; write your own like package.module:callable"
        )
    return Factory(name, _arguments(name, call) if call else {})


def _arguments(name: str, call: str) -> dict[str, Any]:
    try:
        tree = ast.parse(f"f{call}", mode="eval").body
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.args:
            raise ValueError("give keyword arguments only")
        if any(k.arg is None for k in tree.keywords):
            raise ValueError("'**' is not allowed")
        # Python refuses a repeated keyword when it compiles, which is never done here.
        if len({k.arg for k in tree.keywords}) < len(tree.keywords):
            raise ValueError("a keyword is given twice")
        return {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error).partition(":")[0]
        raise InputError(
            f"the arguments of --factory {name} cannot be read ({reason}); write keywords with plain "
            "values, like depth=20, name='x', blocks=(2, 2, 2)"
        ) from error


def build(factory: Factory, beside: Path) -> nn.Module:
    """Import and call a user's factory.

    Raises:
        InputError: it cannot be imported or called, or returns no module.
    """
    make = import_named(factory.name, beside)
    if not callable(make):
        raise InputError(
            f"--factory {factory} is not callable; name a class or function that returns a module"
        )
    try:
        module = make(**factory.arguments)
    except Exception as error:
        raise InputError(f"--factory {factory} raised {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"--factory {factory} returned a {type(module).__name__}, not a torch.nn.Module")
    return module
