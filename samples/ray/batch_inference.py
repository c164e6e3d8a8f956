"""Ray Data: run a bundle over a data set, on as many workers as there are.

Each worker opens the bundle once. The data set is a folder of ``.npz`` or ``.npy`` files, or as here one ``.npz``; a
worker that dies has its blocks done again by another.

    pip install "ray[data]"
    python samples/ray/batch_inference.py out/demo/model-onnx samples/digits/test_images.npz answers.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import ray

import scconv_deploy

ROW = "row"


class Predictor:
    """One worker's engine: a batch of rows in, the same rows with the outputs beside them."""

    def __init__(self, bundle: str) -> None:
        self._engine = scconv_deploy.open(bundle, threads=1)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """``batch`` holds a column per input, and the row numbers."""
        types = self._engine.input_dtypes
        given = {n: np.ascontiguousarray(batch[n]).astype(types[n]) for n in self._engine.input_names}
        return {ROW: batch[ROW], **self._engine.run(given)}


def predict(
    bundle: Path, arrays: dict[str, np.ndarray], workers: int, batch_size: int
) -> dict[str, np.ndarray]:
    """Outputs for every row of ``arrays``, in their order."""
    with scconv_deploy.open(bundle, threads=1) as engine:
        names = engine.input_names
    rows = len(arrays[names[0]])
    data = ray.data.from_items([{ROW: i, **{n: arrays[n][i] for n in names}} for i in range(rows)])
    answered = data.repartition(max(workers * 4, 1)).map_batches(
        Predictor,
        fn_constructor_args=(str(bundle.resolve()),),
        batch_size=batch_size,
        num_cpus=0.5,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    columns = list(answered.iter_batches(batch_size=None, batch_format="numpy"))
    joined = {key: np.concatenate([c[key] for c in columns]) for key in columns[0]}
    order = np.argsort(joined.pop(ROW))
    return {key: array[order] for key, array in joined.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("samples", type=Path, help=".npz with an array per input")
    parser.add_argument("out", type=Path, help=".npz to write")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    with np.load(options.samples) as stored:
        arrays = {name: stored[name] for name in stored.files}
    answers = predict(options.bundle, arrays, options.workers, options.batch)
    np.savez_compressed(options.out, **answers)
    print(f"{len(next(iter(answers.values())))} rows answered on {options.workers} workers: {options.out}")


if __name__ == "__main__":
    main()
