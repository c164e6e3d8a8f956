"""A built artifact -> what of it is run to be compared: itself, its graph in ONNX Runtime, or its graph in torch."""

from __future__ import annotations

from scconv_deploy.artifacts import BuiltArtifact
from scconv_deploy.runtime.onnx import version


def on_device(built: BuiltArtifact) -> bool:
    """Whether the artifact itself runs here, in the types it was built with."""
    return built.not_executed is None and built.runtime != "onnxruntime"


def subject_in_words(built: BuiltArtifact, in_torch: bool) -> str:
    """``model.onnx in ONNX Runtime 1.32.0 on CPU``; ``in_torch``: its types are simulated where it cannot run."""
    if in_torch and not on_device(built):
        what = built.primary.name
        if built.not_executed is not None:
            what = f"the ONNX graph {what} was built from"
        return f"{what}, in torch, rounding after every operator to the types it states"
    if built.not_executed is not None:
        return f"the ONNX graph {built.primary.name} was built from, in ONNX Runtime {version()} on CPU"
    if built.runtime == "onnxruntime":
        return f"{built.primary.name} in ONNX Runtime {version()} on CPU"
    return f"{built.primary.name} in {built.runtime}"
