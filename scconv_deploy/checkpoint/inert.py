"""A pickled checkpoint of unknown classes -> its tensors and attributes, without importing any of them.

Every class the pickle names is mapped to an inert stand-in that only remembers what it was given, under
``weights_only=True``. Structure and weights come back; code does not, and neither does ``forward``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scconv_deploy.checkpoint.archive import outline
from scconv_deploy.checkpoint.facts import Inert
from scconv_deploy.checkpoint.read import load_restricted
from scconv_deploy.checkpoint.state import tensors
from scconv_deploy.checkpoint.trust import refuse_system_calls

__all__ = ["Inert", "load_inert", "tensors"]


def load_inert(path: Path) -> Any:
    """The checkpoint's content with :class:`Inert` objects in place of everything unknown.

    Raises:
        UntrustedCodeError: it asks for functions that no model needs.
        InputError: the file is damaged, or uses pickle features that cannot be read inertly.
    """
    read = outline(path)
    refuse_system_calls(path, read.needs)
    stand_ins = [(type("Inert", (Inert,), {"name": name}), name) for name in read.needs]
    return load_restricted(path, stand_ins, read)
