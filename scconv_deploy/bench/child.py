"""A worker's process: requests on standard input -> replies on the standard output that it was given.

Run as ``python -m scconv_deploy.bench.child`` by :class:`scconv_deploy.bench.workers.ProcessWorker`, and by
nobody else: both ends are this program, so requests and replies are pickles. Anything that a library prints
goes to standard error. The process ends when its input does, so it never outlives its owner.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from scconv_deploy.bench.messages import ERRORS, Order, Reply
from scconv_deploy.bench.openers import NotPortableError
from scconv_deploy.bench.session import Session
from scconv_deploy.errors import CapabilityError, first_line
from scconv_deploy.runtime.dtypes import read_back


def main() -> None:
    """Serve one backend until standard input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the owner decides
    requests = sys.stdin.buffer
    sys.path[:] = pickle.load(requests)  # noqa: S301 - from our own parent process
    session: Session | None = None

    def start(order: Order) -> object:
        nonlocal session
        with np.load(order.inputs, allow_pickle=False) as stored:
            arrays = {name: read_back(stored[name]) for name in stored.files}
        session = Session(order.opener, order.threads, arrays)
        return session.open()

    while True:
        try:
            verb, arguments = pickle.load(requests)  # noqa: S301 - from our own parent process
        except EOFError:
            break
        except Exception as error:  # noqa: BLE001 - an order whose classes this process cannot import
            _send(replies, Reply(None, NotPortableError.__name__, first_line(error)))
            continue
        _send(replies, _do(start if verb == "start" else getattr(session, verb), arguments))
    # Not session.close(): the process ends here, and some runtimes take seconds to tear down.
    os._exit(0)


def _do(action: Callable[..., object], arguments: tuple[Any, ...]) -> Reply:
    try:
        return Reply(action(*arguments))
    except Exception as error:  # noqa: BLE001 - the boundary of the process: every error becomes a reply
        kind = type(error).__name__
        if kind in ERRORS:
            return Reply(None, kind, str(error))
        return Reply(None, CapabilityError.__name__, f"{kind}: {first_line(error)}")


def _send(stream: BinaryIO, reply: Reply) -> None:
    pickle.dump(reply, stream)
    stream.flush()


if __name__ == "__main__":
    main()
