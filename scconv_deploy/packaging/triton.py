"""A bundle -> a Triton model repository: ``<repository>/<name>/{config.pbtxt, 1/..., warmup/...}``.

For Triton's own backends the artifact lies in ``1/`` under the name the backend wants; for its python backend the
whole bundle lies there beside a ``model.py`` that opens it with our runtime, hashes and golden samples included.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from scconv_deploy.packaging.label import sign
from scconv_deploy.packaging.model_config import PYTHON, model_config, text, warm_up_bytes
from scconv_deploy.runtime.golden import read_golden
from scconv_deploy.runtime.manifest import check_hashes, read_manifest
from scconv_deploy.workspace import workspace

NAMES = {
    "onnxruntime": {"model.onnx": "model.onnx"},
    "tensorrt": {"model.engine": "model.plan"},
    "openvino": {"model.xml": "model.xml", "model.bin": "model.bin"},
}
"""Backend -> file of the bundle -> the name that the backend looks for."""
MODEL = Path(__file__).with_name("triton_model.py")
BUNDLE = "bundle"


def write_triton(
    bundle: Path, repository: Path, *, python: bool = False, name: str | None = None, force: bool = False
) -> Path:
    """Write the repository; returns the model's folder in it.

    Args:
        bundle: a finished bundle.
        repository: the folder to write; replaced only with ``force``.
        python: use Triton's python backend with our runtime, whatever the bundle's own.
        name: the model's; None takes the bundle's folder's.

    Raises:
        InputError: not a bundle, altered, or Triton has no backend for it; or the repository exists.
    """
    manifest = read_manifest(bundle)
    check_hashes(bundle, manifest)
    golden, _ = read_golden(bundle)
    config = model_config(name or bundle.resolve().name, manifest, golden, PYTHON if python else None)
    with workspace(repository, force) as space:
        folder = space.folder / config.name
        version, warm = folder / "1", folder / "warmup"
        version.mkdir(parents=True)
        warm.mkdir()
        (folder / "config.pbtxt").write_text(text(config), encoding="utf-8")
        for file, data in warm_up_bytes(config, golden, _dtypes(manifest)).items():
            (warm / file).write_bytes(data)
        if python:
            shutil.copyfile(MODEL, version / "model.py")
            shutil.copytree(bundle, version / BUNDLE)
        else:
            for stored, wanted in NAMES[config.backend].items():
                shutil.copyfile(bundle / stored, version / wanted)
        sign(space.folder, "triton-python" if python else "triton", manifest)
        space.promote(force)
    return repository / config.name


def _dtypes(manifest: dict[str, object]) -> dict[str, str]:
    inputs = manifest["inputs"]
    return {str(i["name"]): str(i["dtype"]) for i in inputs} if isinstance(inputs, list) else {}
