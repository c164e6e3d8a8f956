"""ONNX bytes and a request -> a Plan, built in a process of its own whose death is an error in words.

The process is started once per export and builds as often as it is asked. The plan comes back through a
temporary file beside the artifact. Ctrl-C cancels the build, and a process that does not stop is killed: none is
ever left behind, and no file.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from exporters.trt import plugin_guard
from exporters.trt.build import Plan
from exporters.trt.messages import ERRORS, Built, Failed, Order, Reply, Step
from exporters.trt.platform import Platform
from exporters.trt.settings import BuildRequest
from scconv_deploy.contracts import Progress
from scconv_deploy.errors import BuildError, CapabilityError

CHILD = "exporters.trt.child"
HOME = str(Path(__file__).resolve().parents[2])
"""Where the packages lie: the child must run the same ones, wherever its owner found them."""

POLL_S = 0.1
GRACE_S = 2.0
"""A build that was cancelled gets this long to end by itself before its process is killed."""

LAST_LINES = 3
KILLED = -9
"""What ``returncode`` is after SIGKILL, which is also what the kernel ends a process with for its memory."""


class BuildProcess:
    """Builds for one platform in another process. Made by :func:`building`."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self._platform = platform
        self._folder = folder
        self._doing = "starting"
        self._replies: queue.Queue[Reply | None] = queue.Queue()
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # -P: the current folder, which may be a stranger's, is not searched for modules.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={
                **os.environ,
                **plugin_guard.environment(platform.module.__name__, folder),
                "PYTHONPATH": os.pathsep.join(filter(None, (HOME, os.environ.get("PYTHONPATH")))),
            },
        )
        self._reader = threading.Thread(target=self._read, name="tensorrt-replies", daemon=True)
        self._reader.start()
        self._write([HOME, *sys.path])

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def scratch(self) -> Path:
        """A file that may be written while the process lives, and is gone afterwards."""
        return self._folder / "candidate.engine"

    def plan(self, onnx: bytes, request: BuildRequest, progress: Progress) -> Plan:
        """Build once; as :func:`exporters.trt.build.build_plan`, and

        Raises:
            BuildError: the process died; the message holds how, while doing what, and its last words.
            CapabilityError: it was killed, most often because the machine ran out of memory.
        """
        graph, engine = self._folder / "graph.onnx", self._folder / "plan"
        graph.write_bytes(onnx)
        module = self._platform.module.__name__
        self._write(Order(module, self._platform.gpu, graph, engine, request))
        built = self._wait(progress)
        data = engine.read_bytes()
        engine.unlink()
        return Plan(data, built.layers, built.settings, built.profile, built.seconds, built.warnings)

    def close(self, cancel: bool) -> None:
        """End the process: at once where it has nothing to do, after its grace where a build is cancelled."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        _end(self._process, GRACE_S if cancel else 2 * GRACE_S)
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.close()

    def _wait(self, progress: Progress) -> Built:
        """Poll, so that the listener is called on this thread, and an interrupt is raised between two calls."""
        step = Step("starting the build", None)
        while True:
            try:
                reply = self._replies.get(timeout=POLL_S)
            except queue.Empty:
                progress.update(step.label, step.fraction)
                continue
            if isinstance(reply, Step):
                step = reply
                self._doing = step.label
                progress.update(step.label, step.fraction)
            elif isinstance(reply, Built):
                return reply
            elif isinstance(reply, Failed):
                raise _again(reply)
            else:
                self._replies.put(None)  # for whoever asks a dead process again
                raise self._death()

    def _read(self) -> None:
        """Take replies off the pipe until it ends; None says that it has."""
        assert self._process.stdout is not None
        try:
            while True:
                self._replies.put(pickle.load(self._process.stdout))  # noqa: S301 - from our own child process
        except Exception:  # noqa: BLE001 - the end of the pipe, or bytes cut short by the child's death
            self._replies.put(None)

    def _write(self, message: Any) -> None:
        assert self._process.stdin is not None
        # A process that is gone says so when its reply is waited for.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(pickle.dumps(message))
            self._process.stdin.flush()

    def _death(self) -> BuildError | CapabilityError:
        _end(self._process, GRACE_S)
        code = self._process.returncode
        product = self._platform.product
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, self._said.tell() - 8192))
        lines = [line.strip()[:200] for line in self._said.read().decode(errors="replace").splitlines()]
        last = [line for line in lines if line][-LAST_LINES:]
        words = f"; its last words: {' | '.join(last)}" if last else ""
        doing = self._doing
        if code == KILLED:
            return CapabilityError(
                f"the process of {product} was killed while {doing}, most often because the machine ran out of "
                f"memory; give smaller maximum shapes or a --workspace, or use a larger machine{words}"
            )
        how = f"with exit code {code}" if code >= 0 else f"of {_signal_name(-code)}"
        return BuildError(
            f"the process of {product} died {how} while {doing}; this graph makes the library fail, so report it "
            f"to its makers, or change what it did last{words}"
        )


@contextlib.contextmanager
def building(platform: Platform, folder: Path) -> Iterator[BuildProcess]:
    """A process that builds for ``platform``; its files lie in a folder of their own inside ``folder``.

    On leaving, the process and the files are gone, whatever happened.
    """
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as own:
        process = BuildProcess(platform, Path(own))
        try:
            yield process
        except BaseException:
            process.close(cancel=True)
            raise
        process.close(cancel=False)


def _again(failed: Failed) -> Exception:
    kind = ERRORS.get(failed.kind)
    if kind is not None:
        return kind(failed.sentence)
    error = RuntimeError(f"{failed.kind} in the process that builds: {failed.sentence}")
    error.add_note(failed.traceback)
    return error


def _end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Wait, then kill and wait again; a further Ctrl-C shortens the grace and never skips the waiting."""
    try:
        process.wait(grace_s)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        while process.returncode is None:
            with contextlib.suppress(KeyboardInterrupt):
                process.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
