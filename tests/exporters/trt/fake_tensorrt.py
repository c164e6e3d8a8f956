"""A TensorRT that does what a scenario says: written as a module that a process can import as ``tensorrt``.

What cannot happen on this machine (a GPU that runs out of memory, a driver that aborts, a build that hangs) is
scripted. The scenario is the name in ``FAKE_TENSORRT``; messages are worded as the real builder words them.
"""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

SOURCE = """
import os, signal, sys, time

__version__ = "10.13"
SCENARIO = os.environ["FAKE_TENSORRT"]


class Value(int):
    def __new__(cls, name, number=0):
        made = int.__new__(cls, number)
        made.name = name
        return made


class Values:
    def __init__(self, *names):
        for number, name in enumerate(names):
            setattr(self, name, Value(name, number))


NetworkDefinitionCreationFlag = Values("STRONGLY_TYPED")
BuilderFlag = Values("TF32", "REFIT", "STRIP_PLAN", "WEIGHT_STREAMING", "VERSION_COMPATIBLE")
ProfilingVerbosity = Values("LAYER_NAMES_ONLY", "DETAILED", "NONE")
MemoryPoolType = Values("WORKSPACE", "TACTIC_SHARED_MEMORY")
HardwareCompatibilityLevel = Values("NONE", "AMPERE_PLUS")


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class Network:
    num_inputs = 0

    def get_flag(self, flag):
        return True


class Cache:
    def __init__(self, data):
        self.data = data

    def combine(self, other, ignore):
        if self.data != other.data:
            self.data = other.data + b"|" + self.data
        return True

    def serialize(self):
        return self.data


class Config:
    def __init__(self):
        self.flags = {"TF32"}
        self.pools = {}
        self.cache = None

    def set_flag(self, flag):
        if SCENARIO != "deaf":
            self.flags.add(flag.name)

    def clear_flag(self, flag):
        self.flags.discard(flag.name)

    def get_flag(self, flag):
        return flag.name in self.flags

    def set_memory_pool_limit(self, pool, size):
        self.pools[pool.name] = size

    def get_memory_pool_limit(self, pool):
        return self.pools[pool.name]

    def create_timing_cache(self, data):
        return None if data.startswith(b"another GPU") else Cache(data)

    def set_timing_cache(self, cache, ignore):
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache


class Builder:
    def __init__(self, logger):
        self.logger = logger
        if SCENARIO == "no driver":
            self.say("[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
                     "/_src/checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient for CUDA "
                     "runtime version))")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def say(self, text, severity=ILogger.ERROR):
        self.logger.log(severity, text)

    def create_network(self, flags):
        return Network()

    def create_builder_config(self):
        return Config()

    def create_optimization_profile(self):
        return object()

    def build_serialized_network(self, network, config):
        return globals()["scenario_" + SCENARIO.replace(" ", "_")](self, config)


class OnnxParser:
    num_errors = 0

    def __init__(self, network, logger):
        self.logger = logger

    def parse(self, data):
        if SCENARIO == "abort in the parser":
            self.logger.log(ILogger.VERBOSE, "Parsing node: head/Plugin_7 [Plugin]")
            os.abort()
        return True


def scenario_works(builder, config):
    print("a library that prints to standard output", flush=True)
    if config.cache is not None:
        config.cache.data += b"+timed"
    return b"engine of " + ",".join(sorted(config.flags)).encode()


def scenario_differs(builder, config):
    Builder.built = getattr(Builder, "built", 0) + 1
    return b"engine" * (3, 1, 2)[Builder.built % 3]


def scenario_abort(builder, config):
    builder.say("Tactic 7 of layer1.0/Conv_3", ILogger.VERBOSE)
    os.write(2, b"terminate called after throwing an instance of 'nvinfer1::InternalError'" + bytes([10]))
    os.abort()


def scenario_segfault(builder, config):
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


def scenario_killed(builder, config):
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def scenario_exits(builder, config):
    os._exit(7)


def scenario_hangs(builder, config):
    time.sleep(3600)


def scenario_GPU_memory(builder, config):
    builder.say("[virtualMemoryBuffer.cpp::resizePhysical::154] Error Code 2: OutOfMemory (Requested size was "
                "17179869184 bytes.)")
    builder.say("Requested amount of GPU memory (17179869184 bytes) could not be allocated.")


def scenario_host_memory(builder, config):
    builder.say("Error Code 2: Internal Error (std::bad_alloc thrown in buildSerializedNetwork)")


def scenario_no_kernel(builder, config):
    builder.say("Error Code 10: Internal Error (Could not find any implementation for node "
                "{ForeignNode[layer1.0.scconv/Split_3...layer1.0.scconv.cru/Concat_9]}. In computeCosts at "
                "/_src/optimizer/graph/builder.cpp:4208)")


def scenario_silent(builder, config):
    return None


def scenario_python_error(builder, config):
    raise LookupError("a mistake in our own code")


def scenario_out_of_python_memory(builder, config):
    raise MemoryError("no more")
"""


def write_fake(folder: Path) -> Path:
    """``tensorrt.py`` in ``folder``, which is to be put first on ``sys.path``."""
    file = folder / "tensorrt.py"
    file.write_text(textwrap.dedent(SOURCE))
    return file


def alive(pid: int) -> bool:
    """Whether a process exists, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
