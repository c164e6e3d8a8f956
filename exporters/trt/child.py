"""``python -m exporters.trt.child``: the process that builds. Orders on its input -> plans in files, and replies.

TensorRT may abort its process: on some plugin nodes, or inside a driver. So it runs here, and the exporting
process survives and says what happened. torch is never imported. Ctrl-C belongs to the exporting process, which
closes this one's input: that cancels the build, and so does the death of that process.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from typing import BinaryIO

GRACE_S = 3.0
"""A cancelled build gets this long to end by itself; then the process ends. Its owner, if alive, waits less."""


class Replies:
    """The Progress of the child: tells the exporting process, and stops the build when it has gone or asks."""

    def __init__(self, stream: BinaryIO) -> None:
        self.cancelled = threading.Event()
        self._stream = stream

    def update(self, message: str, fraction: float | None = None) -> None:
        """Forward; KeyboardInterrupt where the build is to stop."""
        from exporters.trt.messages import Step

        if self.cancelled.is_set():
            raise KeyboardInterrupt
        self.send(Step(message, fraction))

    def send(self, reply: object) -> None:
        """One pickled object."""
        try:
            self._stream.write(pickle.dumps(reply))
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            raise KeyboardInterrupt from None


def main() -> int:
    """Serve orders until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = Replies(_own_output())
    sys.path[:] = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    orders: queue.Queue[object] = queue.Queue()
    threading.Thread(target=_listen, args=(orders, replies), name="orders", daemon=True).start()
    while (order := orders.get()) is not None:
        with contextlib.suppress(KeyboardInterrupt):
            replies.send(_carry_out(order, replies))
        if replies.cancelled.is_set():
            break
    return 0


def _own_output() -> BinaryIO:
    """The pipe to the owner, taken away from everything that prints: from here on that goes to the log."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def _listen(orders: queue.Queue[object], replies: Replies) -> None:
    """Read orders as they come; the end of the input cancels the build, and in the end this process."""
    try:
        while True:
            orders.put(pickle.load(sys.stdin.buffer))  # noqa: S301 - from the process that started this one
    except Exception as error:  # noqa: BLE001 - whatever it is, nothing more can be read
        if not isinstance(error, EOFError):
            traceback.print_exc()
        replies.cancelled.set()
        orders.put(None)
        time.sleep(GRACE_S)
        os._exit(1)  # a build that hangs in C++ cannot be ended otherwise


def _carry_out(order: object, replies: Replies) -> object:
    from exporters.trt import platform
    from exporters.trt.build import build_plan
    from exporters.trt.messages import ERRORS, Built, Failed, Order
    from scconv_deploy.runtime.cuda_device import load

    assert isinstance(order, Order)
    try:
        replies.update(f"loading {platform.PRODUCTS[order.module]}")
        module = load(order.module)
        if module is None:
            return Failed("CapabilityError", f"{order.module} cannot be imported in the process that builds")
        chosen = platform.Platform(module, order.gpu, "")
        plan = build_plan(chosen, order.graph.read_bytes(), order.request, replies, _log)
        order.plan.write_bytes(plan.data)
    except Exception as error:  # noqa: BLE001 - the other side raises it again
        name = next((n for n, kind in ERRORS.items() if isinstance(error, kind)), type(error).__name__)
        return Failed(name, str(error) or type(error).__name__, traceback.format_exc())
    return Built(plan.layers, plan.settings, plan.profile, plan.seconds, plan.warnings)


def _log(text: str) -> None:
    """To the log at once: what it holds last is all that is known of a process that aborts."""
    os.write(2, (text.rstrip() + "\n").encode(errors="replace"))


if __name__ == "__main__":
    sys.exit(main())
