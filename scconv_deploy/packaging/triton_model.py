"""Triton's python backend: opens the bundle beside this file and answers with it.

Written by ``scconv-export --package triton-python``. Needs scconv-deploy and the bundle's runtime in the Python
environment of Triton's stub process; Triton itself calls this class. Backends of Triton 2.51 and older answer with
empty tensors under numpy 2: give them numpy below 2.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as triton  # type: ignore[import-not-found]

import scconv_deploy


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open and prove the bundle: a model that gives other answers than its golden samples is not served."""
        folder = Path(args["model_repository"]) / args["model_version"] / "bundle"
        self._engine = scconv_deploy.open(folder, verify="golden")
        config = json.loads(args["model_config"])
        self._types = {o["name"]: triton.triton_string_to_numpy(o["data_type"]) for o in config["output"]}

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer per request; an error belongs to its own request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            names = self._engine.input_names
            given = {n: triton.get_input_tensor_by_name(request, n).as_numpy() for n in names}
            found = self._engine.run(given)
        except Exception as error:  # noqa: BLE001 - the boundary: it belongs to this request
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        wanted = request.requested_output_names()
        tensors = [triton.Tensor(n, found[n].astype(self._types[n], copy=False)) for n in wanted]
        return triton.InferenceResponse(output_tensors=tensors)

    def finalize(self) -> None:
        """Release the engine."""
        self._engine.close()
