"""``--form plugin`` with the real builder: engines with our kernels in them, which no GPU here can run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import scconv_deploy
from scconv_deploy.errors import InputError
from scconv_deploy.scconv import zoo
from tests.exporters.trt.models import rtx


def built(folder: Path, name: str, form: str, precision: str, size: int) -> dict[str, object]:
    rtx()
    torch.manual_seed(0)
    model = zoo.build(name).eval()
    scconv_deploy.export(
        model,
        torch.randn(1, 3, size, size),
        target="trt-rtx",
        precision=precision,
        form=form,
        compute_capabilities=("sm_89",),
        out=folder,
        verify=form == "plugin",
    )
    return json.loads((folder / "manifest.json").read_text())  # type: ignore[no-any-return]


def figure(tree: object, key: str) -> int:
    """The first value of that key, anywhere in the manifest."""
    if isinstance(tree, dict):
        if isinstance(tree.get(key), int):
            return int(tree[key])
        for value in tree.values():
            try:
                return figure(value, key)
            except KeyError:
                continue
    raise KeyError(key)


@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def test_the_plugin_form_builds_with_fewer_kernels(precision: str, tmp_path: Path) -> None:
    plugin = built(tmp_path / "plugin", "scconv_resnet20", "plugin", precision, 32)
    standard = built(tmp_path / "standard", "scconv_resnet20", "standard", precision, 32)
    assert figure(plugin, "kernels") < figure(standard, "kernels")
    assert b"scconv_" in (tmp_path / "plugin" / "model.engine").read_bytes(), "the PTX travels in the engine"
    assert b"scconv_" not in (tmp_path / "standard" / "model.engine").read_bytes()


def test_bfloat16_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fp32 and fp16"):
        built(tmp_path / "out", "scconv_resnet20", "plugin", "bf16", 32)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "kernels", "megabytes"), [("fp32", 141, 235.8), ("fp16", 124, 124.5)])
def test_resnet50_stays_within_what_was_reached(
    precision: str, kernels: int, megabytes: float, tmp_path: Path
) -> None:
    """TensorRT-RTX 1.7.1, SM89, batch 1: a ratchet."""
    if not str(rtx().__version__).startswith("1.7."):
        pytest.skip("the ratchet is for TensorRT for RTX 1.7")
    found = built(tmp_path / "out", "scconv_resnet50", "plugin", precision, 224)
    assert figure(found, "kernels") <= kernels
    assert figure(found, "bytes_moved") <= megabytes * 1e6
