"""One builder per ONNX operator; importing this package fills the registry ``node.OPERATORS``."""

from scconv_deploy.interpret.operators import (
    activation,
    conv,
    elementwise,
    indexing,
    linear,
    norm,
    pad,
    pool,
    quantised,
    reduce,
    resize,
    shape,
    source,
)

__all__ = [
    "activation",
    "conv",
    "elementwise",
    "indexing",
    "linear",
    "norm",
    "pad",
    "pool",
    "quantised",
    "reduce",
    "resize",
    "shape",
    "source",
]
