"""Keyword arguments become the same configuration as the command line's; nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from scconv_deploy import api, benchmarking, pipeline
from scconv_deploy.artifacts import Bundle
from scconv_deploy.bench_config import BenchConfig
from scconv_deploy.config import (
    Budgets,
    CalibMethod,
    ErrorStat,
    ExportConfig,
    Form,
    GateForm,
    Precision,
    shape_ranges,
)
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import InputError
from scconv_deploy.shape_profiles import parse_profiles
from scconv_deploy.tensorrt_options import Pool, TensorRTOptions
from tests.stages.small import network


class Recorder:
    """Stands for a function of the pipeline; keeps what it was called with."""

    def __init__(self) -> None:
        self.given: tuple[Any, ...] = ()
        self.named: Mapping[str, Any] = {}
        self.arrays: dict[str, np.ndarray] = {}

    def __call__(self, *given: Any, **named: Any) -> None:
        self.given, self.named = given, named
        if named.get("samples") is not None:
            with np.load(named["samples"]) as data:
                self.arrays = dict(data)


def recorder(name: str, patch: pytest.MonkeyPatch, home: ModuleType = pipeline) -> Recorder:
    made = Recorder()
    patch.setattr(home, name, made)
    return made


def test_every_choice_reaches_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    called = recorder("run_export", monkeypatch)
    choices: dict[str, Any] = {
        "opset": 18,
        "form": "plugin",
        "gate": "sigmoid",
        "io_dtype": "half",
        "bisect": True,
        "shapes": shape_ranges(["mask:1x3"]),
        "factory": "nets:make",
        "variant": "F3",
        "trust": ["nets"],
        "calib": "real.npz",
        "compute_capabilities": ["8.6"],
        "tensorrt": TensorRTOptions({Pool.WORKSPACE: 64 * 2**20}, refit=True),
        "profiles": parse_profiles(["image:1x3/2x3/4x3", "image:8x3"]),
        "simplify": False,
        "verify": False,
        "force": True,
        "packages": ["triton"],
        "calib_method": "percentile",
        "rest": None,
        "autotune_seconds": 2.5,
        "seed": 7,
    }
    limits: dict[str, Any] = {
        "max_flip_rate": 0.01,
        "atol": 1e-3,
        "rtol": {"output": 0.1},
        "check_error_stat": "mean",
    }
    api.export("model.pt", None, "trt", "half", "out", **choices, **limits)
    model, config, listener, tensors = called.given
    assert (model, tensors) == ("model.pt", None)
    assert isinstance(listener, Silence)
    changed = {
        "shapes": (
            *shape_ranges(minimum=["image:1x3"], optimum=["image:2x3"], maximum=["image:8x3"]),
            *choices["shapes"],
        ),
        "trust": ("nets",),
        "compute_capabilities": ("8.6",),
        "calib": Path("real.npz"),
        "calib_method": CalibMethod.PERCENTILE,
        "packages": ("triton",),
        "form": Form.PLUGIN,
        "gate": GateForm.SIGMOID,
        "io_dtype": Precision.FP16,
        "budgets": Budgets(0.01, {"": 1e-3}, {"output": 0.1}, ErrorStat.MEAN),
    }
    first = {"target": "trt", "precision": Precision.FP16, "out": Path("out")}
    assert config == ExportConfig(**{**choices, **changed, **first})
    assert {*choices, *changed, *first} == {f.name for f in fields(ExportConfig)}


def test_defaults_are_the_configurations_own(monkeypatch: pytest.MonkeyPatch) -> None:
    called = recorder("run_export", monkeypatch)
    api.export("model.pt")
    assert called.given[1] == ExportConfig(target="onnx")
    given = signature(api.export).parameters
    for field in fields(ExportConfig):
        if field.default is not MISSING and field.name != "opset":  # which depends on the precision
            assert given[field.name].default == field.default, field.name


def test_the_opset_follows_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    called = recorder("run_export", monkeypatch)
    for precision, opset in (("fp32", 20), ("fp16", 20), ("bf16", 22)):
        api.export("model.pt", precision=precision)
        assert called.given[1].opset == opset
    with pytest.raises(InputError, match="bf16 needs opset 22"):
        api.export("model.pt", precision="bf16", opset=20)


def test_one_tensor_is_one_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    called = recorder("run_export", monkeypatch)
    x = torch.zeros(2, 3)
    net = nn.ReLU()
    api.export(net, x)
    assert called.given[0] is net
    assert len(called.given[3]) == 1
    assert called.given[3][0] is x
    api.export(net, [x, x])
    assert len(called.given[3]) == 2


def test_wrong_words_are_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    called = recorder("run_export", monkeypatch)
    with pytest.raises(InputError, match="did you mean 'fp16'"):
        api.export("model.pt", precision="fp61")
    with pytest.raises(InputError, match="opset 7 is not supported"):
        api.export("model.pt", opset=7)
    assert called.given == ()


def test_samples_given_as_arrays_are_gone_afterwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called = recorder("run_verify", monkeypatch)
    bundle = Bundle(tmp_path / "b", tmp_path / "b" / "model.onnx", {}, None)
    api.verify(bundle, "model.pt", {"image": np.arange(3)}, trust=["nets"])
    assert called.given == (bundle.path,)
    assert called.named["model"] == Path("model.pt")
    assert called.named["trust"] == ("nets",)
    np.testing.assert_array_equal(called.arrays["image"], np.arange(3))
    assert not called.named["samples"].exists()
    api.verify(str(bundle.path))
    assert called.given == (bundle.path,)
    assert called.named["model"] is called.named["samples"] is None


def test_bundles_and_paths_are_measured_in_their_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called = recorder("run_benchmark", monkeypatch, benchmarking)
    api.benchmark("model.pt", Bundle(tmp_path, tmp_path / "model.onnx", {}, None), Path("b"))
    assert called.given[:2] == (("model.pt", str(tmp_path), "b"), BenchConfig())
    net = network()
    api.benchmark(net)
    assert called.given[0] == (net,)  # a module in memory stays itself


def test_recognise_leaves_the_module_alone() -> None:
    net = network()
    found = api.recognise(net, seed=3)
    assert [b.path for b in found.blocks] == ["2"]
    assert found.blocks[0].certificate.seed == 3
    assert net.training
    assert api.recognise(nn.Sequential(nn.Conv2d(3, 8, 1))).blocks == ()
