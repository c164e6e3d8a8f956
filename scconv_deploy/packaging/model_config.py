"""A bundle's manifest -> Triton's ``config.pbtxt``, with the checks that its protobuf does not make.

Source: Triton Inference Server, "Model Configuration" (``model_config.proto``). The text is protobuf's text format;
strings are quoted as JSON, which that format reads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scconv_deploy.errors import InputError
from scconv_deploy.runtime.batch_axis import counts_samples
from scconv_deploy.runtime.dtypes import numpy_dtype

DATA_TYPES = {
    "bool": "TYPE_BOOL",
    **{f"{u}int{n}": f"TYPE_{u.upper()}INT{n}" for u in ("", "u") for n in (8, 16, 32, 64)},
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "bfloat16": "TYPE_BF16",
}
BACKENDS = {"onnxruntime": "onnxruntime", "tensorrt": "tensorrt", "openvino": "openvino"}
"""Runtime of a bundle -> Triton's backend. Triton has none for TensorRT for RTX: python serves it."""
PYTHON = "python"
GPU_BACKENDS = ("tensorrt",)
LARGEST_BATCH = 64
"""``max_batch_size`` where the bundle sets no limit."""
WARM_UP = "golden"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output as Triton has it: without the batch axis where there is one; free axes are -1."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    itemsize: int


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What ``config.pbtxt`` says. ``max_batch`` 0: the tensors' first axis is no batch."""

    name: str
    backend: str
    max_batch: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    warm_up: Mapping[str, tuple[int, ...]]
    """Input -> its dims in the warm-up request; its bytes lie in ``warmup/<WARM_UP>_<input>``."""


def model_config(
    name: str, manifest: Mapping[str, Any], golden: Mapping[str, np.ndarray], backend: str | None = None
) -> ModelConfig:
    """Put the configuration together.

    Args:
        name: the model's name in the repository.
        manifest: the bundle's.
        golden: its golden inputs, batch included.
        backend: Triton's; None takes the one for the bundle's runtime.

    Raises:
        InputError: Triton has no backend for this runtime, or no type for a tensor.
    """
    runtime = str(manifest["runtime"])
    chosen = backend or BACKENDS.get(runtime)
    if chosen is None:
        raise InputError(
            f"Triton has no backend for {runtime} bundles; --package triton-python serves them through our runtime"
        )
    batched = counts_samples(manifest)
    inputs = tuple(_tensor(t, batched=batched) for t in manifest["inputs"])
    outputs = tuple(_tensor(t, batched=batched) for t in manifest["outputs"])
    largest = min((int(t["maximum"][0]) for t in manifest["inputs"] if t["maximum"]), default=1)
    config = ModelConfig(
        name=name,
        backend=chosen,
        max_batch=min(largest, LARGEST_BATCH) if batched else 0,
        inputs=inputs,
        outputs=outputs,
        warm_up={t.name: golden[t.name].shape[1:] if batched else golden[t.name].shape for t in inputs},
    )
    check(config)
    return config


def check(config: ModelConfig) -> None:
    """What a server would find out only when it loads the model.

    Raises:
        InputError: in words.
    """
    if not config.name or "/" in config.name:
        raise InputError(f"'{config.name}' is no name for a Triton model")
    for kind, tensors in (("input", config.inputs), ("output", config.outputs)):
        names = [t.name for t in tensors]
        if not names or len(set(names)) != len(names) or not all(names):
            raise InputError(f"the {kind}s of '{config.name}' need names, each its own: {names}")
        for tensor in tensors:
            if any(d == 0 or d < -1 for d in tensor.dims):
                raise InputError(
                    f"{kind} '{tensor.name}' has dims {list(tensor.dims)}; each is above 0, or -1"
                )
    for tensor in config.inputs:
        given = config.warm_up.get(tensor.name)
        fits = given is not None and len(given) == len(tensor.dims)
        if not fits or any(d not in (-1, g) for d, g in zip(tensor.dims, given or (), strict=False)):
            raise InputError(
                f"the warm-up of input '{tensor.name}' has dims {given}; the model takes {list(tensor.dims)}"
            )


def warm_up_bytes(
    config: ModelConfig, golden: Mapping[str, np.ndarray], dtypes: Mapping[str, str]
) -> dict[str, bytes]:
    """File name in ``warmup/`` -> its bytes: the first golden sample, or the whole tensor without a batch axis."""
    files = {}
    for tensor in config.inputs:
        array = golden[tensor.name].astype(numpy_dtype(dtypes[tensor.name]))
        data = np.ascontiguousarray(array[:1] if config.max_batch else array).tobytes()
        if len(data) != math.prod(config.warm_up[tensor.name]) * tensor.itemsize:
            raise InputError(
                f"the golden sample of input '{tensor.name}' has {len(data)} bytes, which do not fit"
            )
        files[warm_up_file(tensor.name)] = data
    return files


def warm_up_file(name: str) -> str:
    """The file of an input, safe as a file name."""
    return f"{WARM_UP}_" + "".join(c if c.isalnum() or c in "._-" else "_" for c in name)


def text(config: ModelConfig) -> str:
    """``config.pbtxt``."""
    lines = [
        f"name: {json.dumps(config.name)}",
        f"backend: {json.dumps(config.backend)}",
        f"max_batch_size: {config.max_batch}",
    ]
    lines += [_tensor_text("input", t) for t in config.inputs]
    lines += [_tensor_text("output", t) for t in config.outputs]
    if config.max_batch > 1:
        lines.append("dynamic_batching { max_queue_delay_microseconds: 0 }")
    kind = "KIND_GPU" if config.backend in GPU_BACKENDS else "KIND_CPU"
    lines.append(f"instance_group [ {{ count: 1 kind: {kind} }} ]")
    if config.backend in GPU_BACKENDS:
        lines.append("optimization { cuda { graphs: true } }")
    lines += ["version_policy { latest { num_versions: 1 } }", _warm_up_text(config)]
    return "\n".join(lines) + "\n"


def _tensor_text(kind: str, tensor: Tensor) -> str:
    return f"{kind} [ {{ name: {json.dumps(tensor.name)} data_type: {tensor.data_type} dims: {_dims(tensor.dims)} }} ]"


def _warm_up_text(config: ModelConfig) -> str:
    types = {t.name: t.data_type for t in config.inputs}
    inputs = " ".join(
        f"inputs {{ key: {json.dumps(name)} value {{ data_type: {types[name]} dims: {_dims(dims)} "
        f"input_data_file: {json.dumps(warm_up_file(name))} }} }}"
        for name, dims in config.warm_up.items()
        if name in types
    )
    return f"model_warmup [ {{ name: {json.dumps(WARM_UP)} batch_size: 1 {inputs} }} ]"


def _dims(dims: Sequence[int]) -> str:
    return "[ " + ", ".join(str(d) for d in dims) + " ]"


def _tensor(entry: Mapping[str, Any], *, batched: bool) -> Tensor:
    dtype = str(entry["dtype"])
    if dtype not in DATA_TYPES:
        raise InputError(f"tensor '{entry['name']}' is {dtype}, which Triton has no type for")
    dims = tuple(-1 if isinstance(a, str) else int(a) for a in entry["shape"][1 if batched else 0 :])
    return Tensor(str(entry["name"]), DATA_TYPES[dtype], dims or (1,), numpy_dtype(dtype).itemsize)
