"""Engines of a small SCConv network in both forms: does one build here, load, run, and pass its verification?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import scconv_deploy
from scconv_deploy.errors import ScconvDeployError
from scconv_deploy.scconv import zoo

TARGETS = ("trt", "trt-rtx")
FORMS = ("standard", "plugin")
PRECISIONS = ("fp32", "fp16")


def rows() -> list[dict[str, Any]]:
    """One row per target, form and precision; a refusal is an answer, kept in its own words."""
    return [_row(t, f, p) for t in TARGETS for f in FORMS for p in PRECISIONS]


def _row(target: str, form: str, precision: str) -> dict[str, Any]:
    row: dict[str, Any] = {"target": target, "form": form, "precision": precision}
    torch.manual_seed(0)
    model = zoo.build("scconv_resnet20").eval()
    x = torch.randn(1, 3, 32, 32)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bundle"
        try:
            scconv_deploy.export(model, x, target=target, precision=precision, form=form, out=out)
            row["built"] = True
            with scconv_deploy.open(out) as engine:
                first = np.asarray(engine(x.numpy()))
                row["ran"] = True
                row["same_twice"] = bool(np.array_equal(first, np.asarray(engine(x.numpy()))))
            report = scconv_deploy.verify(out, model)
            row["verdict"] = report.verdict.value
            row["sentence"] = report.sentence
            row["passed"] = row["verdict"] != "FAIL" and row["same_twice"]
        except ScconvDeployError as error:
            row["refused"] = str(error)
    return row
