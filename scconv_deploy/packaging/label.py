"""A package's own ``manifest.json``: which bundle it is of, so that it can be told from a stranger's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scconv_deploy.workspace import MANIFEST


def sign(folder: Path, kind: str, manifest: Mapping[str, Any]) -> None:
    """Say what this folder is. It holds no schema version: it is no bundle, and is not opened as one."""
    label = {
        "package": kind,
        "scconv_deploy": version("scconv-deploy"),
        "bundle_created": manifest.get("created"),
        "artifact_sha256": manifest["files"][manifest["artifact"]]["sha256"],
    }
    (folder / MANIFEST).write_text(json.dumps(label, indent=2) + "\n", encoding="utf-8")
