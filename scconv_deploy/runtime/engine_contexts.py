"""One engine, several calls at once: each call takes an execution context with its own stream and buffers.

A context is not thread-safe, and it remembers shapes and addresses: a call of the shape before it sets nothing. So
a free context that has last seen a call's shapes is preferred. Contexts are made when they are needed, up to the
number that was asked for; further calls wait.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scconv_deploy.errors import CapabilityError, InputError, first_line
from scconv_deploy.runtime.cuda_device import Buffer, CudaDevice
from scconv_deploy.runtime.device_array import DeviceArray
from scconv_deploy.runtime.engine_profiles import Shape
from scconv_deploy.runtime.input_checks import check_target

EAGER_CALLS = 2
"""Calls of one shape before it is captured: TensorRT does part of its work for a new shape in its first launch."""

Shapes = tuple[int, tuple[tuple[str, Shape], ...]]
"""The profile and every input's shape: what a context is set to."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Names and types of an engine's inputs and outputs."""

    inputs: Mapping[str, np.dtype[Any]]
    outputs: Mapping[str, np.dtype[Any]]


class Slot:
    """An execution context, its stream and its device memory. Used by one call at a time."""

    def __init__(self, context: Any, device: CudaDevice, ends: Ends, graphs: bool) -> None:
        self.context = context
        self.device = device
        self.stream = device.open_stream()
        self.set_to: Shapes | None = None
        self.graph_refusal: str | None = None
        self._ends = ends
        self._graphs = graphs
        self._graph: Any = None
        self._calls = 0
        self._profile = 0
        self._buffers: dict[str, Buffer] = {}
        self._outputs: dict[str, Shape] = {}

    def run(
        self, inputs: Mapping[str, np.ndarray], wanted: Shapes, into: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Copy in, compute, copy out. ``into`` holds arrays that take outputs; the others are made.

        Raises:
            InputError: the engine does not take these shapes, or an array of ``into`` does not fit its output.
            CapabilityError: the GPU reports an error, or the engine does not start.
        """
        # What asynchronous copies read and write; it lives until the stream was waited for, here or in _forget().
        held: list[object] = []
        try:
            if wanted != self.set_to:
                self.settle(wanted)
            results = {n: _target(n, s, self._ends.outputs[n], into) for n, s in self._outputs.items()}
            held.extend(self._send(name, inputs[name]) for name in self._ends.inputs)
            self._start()
            held.extend(self._fetch(name, target) for name, target in results.items())
            self.device.wait(self.stream)
        except BaseException:
            self._forget()
            raise
        return results

    def _send(self, name: str, given: np.ndarray) -> object:
        """Begin to copy an input into its buffer; what comes back must live until the stream was waited for."""
        buffer = self._buffers[name]
        if isinstance(given, DeviceArray):
            address, owner = given.lent_to(self.device.handle(self.stream))
            self.device.move(buffer.address, address, given.nbytes, self.stream)
            return owner
        host = np.ascontiguousarray(given)
        self.device.send(buffer, host, self.stream)
        return host

    def _fetch(self, name: str, target: np.ndarray) -> object:
        """Begin to copy an output to where it was asked for; as :meth:`_send`."""
        buffer = self._buffers[name]
        if isinstance(target, DeviceArray):
            address, owner = target.lent_to(self.device.handle(self.stream))
            self.device.move(address, buffer.address, target.nbytes, self.stream)
            return owner
        self.device.fetch(target, buffer, self.stream)
        return target

    def settle(self, wanted: Shapes) -> None:
        """Set profile, shapes and addresses; make the buffers. Nothing is computed."""
        self._drop_graph()
        self.set_to, self._calls = None, 0
        profile, shapes = wanted
        if profile != self._profile:
            if not self.context.set_optimization_profile_async(profile, self.device.handle(self.stream)):
                raise CapabilityError(
                    f"the engine does not change to its profile {profile}; its log has the reason"
                )
            self._profile = profile
        for name, shape in shapes:
            if not self.context.set_input_shape(name, shape):
                raise InputError(
                    f"the engine refuses the shape {shape} of input '{name}'; its log has the reason"
                )
        unresolved = self.context.infer_shapes()
        if unresolved:
            raise InputError(f"the engine still lacks shapes for {', '.join(unresolved)}")
        self._outputs = {
            n: tuple(int(d) for d in self.context.get_tensor_shape(n)) for n in self._ends.outputs
        }
        for name, shape in (*shapes, *self._outputs.items()):
            self._place(name, shape)
        self.set_to = wanted

    def _place(self, name: str, shape: Shape) -> None:
        if any(d < 0 for d in shape):
            raise CapabilityError(
                f"output '{name}' has a size that only the data decide ({shape}); this runtime does not take such"
            )
        kind = self._ends.inputs.get(name) or self._ends.outputs[name]
        size = kind.itemsize * int(np.prod(shape, dtype=np.int64))
        held = self._buffers.get(name)
        if held is None or held.size < size:
            if held is not None:
                del self._buffers[name]
                self.device.free(held)
            self._buffers[name] = self.device.allocate(size)
        self.context.set_tensor_address(name, self._buffers[name].address)

    def _start(self) -> None:
        if self._graph is None and self._graphs and self._calls >= EAGER_CALLS and self.graph_refusal is None:
            self._capture()
        if self._graph is not None:
            self.device.replay(self._graph, self.stream)
        else:
            self.launch()
        self._calls += 1

    def launch(self) -> None:
        """Start the engine's kernels on the stream; CapabilityError where it does not start."""
        if not self.context.execute_async_v3(self.device.handle(self.stream)):
            raise CapabilityError("the engine could not be started; its log has the reason")

    def _capture(self) -> None:
        """One graph for the present shapes and addresses. An engine that cannot be captured runs as before."""
        try:
            self._graph = self.device.capture(self.stream, self.launch)
        except CapabilityError as error:
            self.graph_refusal = first_line(error)

    def _forget(self) -> None:
        """After a failure nothing is known of the context; what still runs must not outlive the call's arrays."""
        self.set_to = None
        with contextlib.suppress(CapabilityError):
            self.device.wait(self.stream)
        with contextlib.suppress(CapabilityError):
            self._drop_graph()

    def _drop_graph(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None:
            self.device.drop(graph)

    def address(self, name: str) -> int:
        """Where a tensor lies on the device, after :meth:`settle`."""
        return self._buffers[name].address

    def results(self) -> dict[str, np.ndarray]:
        """Empty arrays of the outputs' shapes, after :meth:`settle`."""
        return {n: np.empty(s, self._ends.outputs[n]) for n, s in self._outputs.items()}

    def close(self) -> None:
        """Give everything back; the context must go before its engine does."""
        with contextlib.ExitStack() as rest:
            rest.callback(setattr, self, "context", None)
            rest.callback(self.device.close_stream, self.stream)
            for buffer in self._buffers.values():
                rest.callback(self.device.free, buffer)
            rest.callback(self._drop_graph)
            self._buffers = {}


class ContextPool:
    """At most ``size`` slots. Thread-safe."""

    def __init__(self, make: Callable[[], Slot], size: int) -> None:
        self._make = make
        self._size = size
        self._free: list[Slot] = []
        self._made = 0
        self._closed = False
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def slot(self, wanted: Shapes | None = None) -> Iterator[Slot]:
        """A slot for one call, preferably one that is set to ``wanted``; waits where all are busy.

        Raises:
            CapabilityError: the pool is closed, or a context cannot be made.
        """
        slot = self._take(wanted)
        try:
            yield slot
        finally:
            with self._changed:
                self._free.append(slot)
                self._changed.notify_all()

    def _take(self, wanted: Shapes | None) -> Slot:
        with self._changed:
            while not self._closed:
                match = next((s for s in self._free if s.set_to == wanted), None)
                if match is None and self._made < self._size:
                    # Counted before it is made, outside the lock: that takes a while.
                    self._made += 1
                    break
                if match is None and self._free:
                    match = self._free[0]
                if match is not None:
                    self._free.remove(match)
                    return match
                self._changed.wait()
            else:
                raise CapabilityError("the engine was closed")
        try:
            return self._make()
        except BaseException:
            with self._changed:
                self._made -= 1
                self._changed.notify_all()
            raise

    def refusals(self) -> tuple[str, ...]:
        """Why graphs could not be captured, where that was so."""
        with self._changed:
            return tuple(dict.fromkeys(s.graph_refusal for s in self._free if s.graph_refusal))

    def close(self) -> None:
        """Wait for the calls that run, then give every slot back; calls that wait are refused."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            while len(self._free) < self._made:
                self._changed.wait()
            slots, self._free, self._made = self._free, [], 0
        with contextlib.ExitStack() as rest:
            for slot in slots:
                rest.callback(slot.close)


def _target(name: str, shape: Shape, kind: np.dtype[Any], into: Mapping[str, np.ndarray]) -> np.ndarray:
    if name not in into:
        return np.empty(shape, kind)
    check_target(name, into[name], shape, kind)
    return into[name]
