"""TensorRT's process-global logger -> the messages of the build that is running now.

TensorRT keeps the first logger it is given for the whole process and ignores later ones, so there is one
bridge per module, never a second. Builds of one module are serialised by its lock: otherwise the
``Layers:`` message of one build could be taken for another's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any


@dataclass(slots=True)
class Messages:
    """What the builder said during one build, in order."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    verbose: list[str] = field(default_factory=list)

    def layers(self) -> str | None:
        """The last message that lists the final kernels, or None where the builder wrote none."""
        return next((m for m in reversed(self.verbose) if m.startswith("Layers:")), None)


class _Channel:
    """The bridge of one module: TensorRT's logger object, and where its messages go at the moment."""

    def __init__(self, module: ModuleType) -> None:
        self.lock = threading.Lock()
        self.messages: Messages | None = None
        self.heard: Callable[[str], None] | None = None
        self.logger: Any = _bridge(module, self._receive)
        severity = module.ILogger
        self._errors = (severity.INTERNAL_ERROR, severity.ERROR)
        self._warning = severity.WARNING
        self._verbose = severity.VERBOSE

    def _receive(self, severity: object, text: str) -> None:
        if self.heard is not None:
            self.heard(text)
        if self.messages is None:
            return
        if severity in self._errors:
            self.messages.errors.append(text)
        elif severity == self._warning:
            self.messages.warnings.append(text)
        elif severity == self._verbose:
            self.messages.verbose.append(text)


_CHANNELS: dict[str, _Channel] = {}
_CHANNELS_LOCK = threading.Lock()


@contextmanager
def recording(
    module: ModuleType, heard: Callable[[str], None] | None = None
) -> Iterator[tuple[Any, Messages]]:
    """Yield the module's one logger and the messages of this build; other builds wait their turn.

    ``heard`` is told every message at once, of any severity.
    """
    with _CHANNELS_LOCK:
        channel = _CHANNELS.get(module.__name__)
        if channel is None:
            channel = _CHANNELS[module.__name__] = _Channel(module)
    with channel.lock:
        messages = channel.messages = Messages()
        channel.heard = heard
        try:
            yield channel.logger, messages
        finally:
            channel.messages = channel.heard = None


def _bridge(module: ModuleType, receive: Callable[[object, str], None]) -> Any:
    """An ``ILogger`` of this module; its base class is only known when the module is loaded."""

    class Bridge(module.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            # TensorRT requires the base class's own __init__, not super().
            module.ILogger.__init__(self)

        def log(self, severity: object, msg: str) -> None:
            receive(severity, msg)

    return Bridge()
