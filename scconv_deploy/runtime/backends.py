"""Runtime name in a manifest -> its runner; heavy runtimes are imported here, when needed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from scconv_deploy.contracts import Runner
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.runtime.engine_options import PLANAR, EngineOptions


def open_runner(
    runtime: str,
    artifact: Path,
    threads: int | None = None,
    provider: str | None = None,
    options: EngineOptions | None = None,
    manifest: Mapping[str, Any] | None = None,
) -> AbstractContextManager[Runner]:
    """Open ``artifact`` with the runtime it was built for.

    ``options`` are for ONNX Runtime and TensorRT; with the bundle's ``manifest`` a mismatch with this machine is
    explained before a TensorRT engine is loaded.

    Raises:
        CapabilityError: that runtime, or the device it needs, is missing here.
        InputError: the runtime is unknown to this version.
    """
    if runtime == "onnxruntime":
        try:
            from scconv_deploy.runtime.onnx import CPU, OnnxRunner
        except ImportError as error:
            raise CapabilityError(
                "this bundle needs ONNX Runtime, which is not installed: pip install onnxruntime"
            ) from error
        use_blocks = options is None or options.layout != PLANAR
        return OnnxRunner(artifact, threads=threads, provider=provider or CPU, use_blocks=use_blocks)
    if runtime == "openvino":
        try:
            from scconv_deploy.runtime.openvino import CPU as OPENVINO_CPU
            from scconv_deploy.runtime.openvino import OpenVINORunner
        except ImportError as error:
            raise CapabilityError(
                'this bundle needs OpenVINO, which is not installed: pip install "scconv-deploy[openvino]"'
            ) from error
        return OpenVINORunner(artifact, threads=threads, provider=provider or OPENVINO_CPU)
    if runtime in ("tensorrt", "tensorrt-rtx"):
        if provider is not None:
            raise InputError(f"a {runtime} engine has no providers; leave provider out")
        from scconv_deploy.runtime.tensorrt import TensorRTRunner

        return TensorRTRunner(artifact, runtime, options, manifest)
    raise InputError(f"this version of scconv-deploy cannot run '{runtime}' artifacts; upgrade it")
