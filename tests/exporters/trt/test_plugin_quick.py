"""Ahead-of-time plugins against the real bindings, made importable by a stub library: no TensorRT, no GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporters.trt.plugin_quick import attributes_of
from scconv_deploy.kernels.names import operators
from scconv_deploy.kernels.ptx import KernelSpec, Layout
from tests.exporters.bindings.stub import compile_stub, compiler, run_in
from tests.exporters.bindings.wheels import install

VERSIONS = ("10.9.0.34", "10.13.3.9", "10.16.1.11", "11.4.0.106")

REGISTER = """
import tensorrt, json, sys
from types import SimpleNamespace
from tests.exporters.bindings.registry import install
from exporters.trt import plugin_quick as quick
registry = install(tensorrt)
"""

DESCRIBE = """
import numpy as np
import importlib
plugin = importlib.import_module(tensorrt.__name__ + ".plugin")  # the stub runs the bindings themselves
made = quick.register(tensorrt)
assert not quick.register(tensorrt), "a second time there is nothing left to do"
found = {}
def field(name, value, kind):
    return tensorrt.PluginField(name, np.array([value], kind), {np.int32: tensorrt.PluginFieldType.INT32,
        np.float32: tensorrt.PluginFieldType.FLOAT32}[kind])
def run(operator, channels, dtype, layout, tensors):
    creator = registry.creators["scconv", operator]
    fields = [field("groups", 16, np.int32), field("epsilon", 1e-5, np.float32), field("logit", 0.25, np.float32)]
    fields = tensorrt.PluginFieldCollection(fields if operator.startswith("SRU") else [])
    one = creator.create_plugin(operator, "scconv", fields, tensorrt.TensorRTPhase.BUILD,
        tensorrt.QuickPluginCreationRequest.PREFER_AOT)
    types = [getattr(tensorrt.DataType, dtype)] * tensors[0] + [tensorrt.DataType.FLOAT] * tensors[1]
    outputs = [t.name for t in one.get_output_data_types(types, [4] * tensors[0] + [1] * tensors[1])]
    definition = getattr(plugin.op.scconv, operator)
    shape = (2, channels, 28, 28)
    first = SimpleNamespace(dtype=types[0], format=getattr(tensorrt.TensorFormat, layout),
        shape=type("S", (tuple,), {"is_dynamic": False, "opt": shape})(shape),
        shape_expr=tuple(plugin.ShapeExpr(d) for d in shape))
    values = [one.attrs[name] for name in one.attrs]
    others = [None] * (len(types) - 1)
    combinations = definition.autotune_func(first, *others, *values, None)
    entry, ptx, launch, extras = definition.aot_impl_func(first, *others, *values, None, 0)
    assert isinstance(launch, plugin.KernelLaunchParams) and isinstance(extras, plugin.SymIntExprs)
    assert isinstance(launch.block_x, plugin.SymInt32)
    assert all(isinstance(e, plugin.SymInt32) for e in extras)
    return {"outputs": outputs, "entry": entry, "ptx": ".entry " + entry in ptx, "extras": len(extras),
        "combinations": [[list(c.io_types), list(c.layouts)] for c in combinations]}
found["sru"] = run("SRUWhole_soft", 64, "HALF", "HWC8", (1, 2))
found["pool"] = run("CRUPool", 64, "FLOAT", "HWC", (2, 0))
found["mix"] = run("CRUMixWhole_joint_affine_relu", 128, "BF16", "LINEAR", (1, 3))
found["names"] = sorted(name for _, name in registry.creators)
print()
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_real_bindings_accept_every_signature(version: str, tmp_path: Path) -> None:
    if compiler() is None:
        pytest.skip("no C compiler for the stub library here")
    bindings = tmp_path / "bindings"
    problem = install(version, bindings)
    if problem is not None:
        pytest.skip(problem)
    stub = tmp_path / "stub"
    stub.mkdir()
    done = run_in(bindings, compile_stub(stub), REGISTER + DESCRIBE)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["names"] == sorted(operators())
    assert found["sru"]["entry"] == "scconv_SRUWhole_soft_fp16_last_4"
    assert found["sru"]["outputs"] == ["HALF"]
    assert found["pool"]["outputs"] == ["FLOAT"]
    assert found["mix"]["entry"] == "scconv_CRUMixWhole_joint_affine_relu_bf16_planar"
    for name in ("sru", "pool", "mix"):
        assert found[name]["ptx"]
        types = [tuple(c[0]) for c in found[name]["combinations"]]
        assert len(types) == 6, "three types in two layouts"
    layouts = {layout for c in found["sru"]["combinations"] for layout in c[1]}
    assert layouts == {"LINEAR", "HWC", "HWC8"}
    assert found["sru"]["extras"] == len(KernelSpec("SRU_soft", "fp16", Layout.LAST, 4).extras)


@pytest.mark.slow
def test_a_broken_signature_is_refused_by_the_bindings(tmp_path: Path) -> None:
    """The alarm of the test above: results of aot_impl in another order."""
    if compiler() is None:
        pytest.skip("no C compiler for the stub library here")
    problem = install(VERSIONS[1], tmp_path / "bindings")
    if problem is not None:
        pytest.skip(problem)
    stub = tmp_path / "stub"
    stub.mkdir()
    twin = """
plain = quick._sign
def turned(function, parameters, result):
    if "tactic" in parameters:
        parameters = dict(reversed(list(parameters.items())))
    plain(function, parameters, result)
quick._sign = turned
quick.register(tensorrt)
"""
    done = run_in(tmp_path / "bindings", compile_stub(stub), REGISTER + twin)
    assert done.returncode != 0
    assert "aot_impl" in done.stderr


def test_attributes_are_those_of_the_fused_operators() -> None:
    assert list(attributes_of("SRU_soft_ge")) == ["groups", "epsilon", "logit"]
    assert list(attributes_of("SRUWhole_static_std")) == ["groups", "epsilon"]
    assert attributes_of("CRUPool") == {}
