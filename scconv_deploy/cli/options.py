"""The options that the five commands share, declared once: name, type and help.

Values are parsed in ``requests.py`` rather than by the option parser, so that a wrong value is answered with
one sentence and the nearest valid name.
"""

from __future__ import annotations

from typing import Annotated

import typer

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; results and errors only.")]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="One JSON object on standard output, on failure too; all else on stderr."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

Factory = Annotated[
    str | None,
    typer.Option(
        "--factory",
        metavar="MODULE:CALLABLE",
        help="Builds the architecture for weights: MODULE:CALLABLE, MODULE:CALLABLE(width=8), or a zoo name. "
        "Its code runs: name only what you trust.",
    ),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="NAME[=MODULE]",
        help="Allow importing one named class (or module) for a pickled model; __main__=nets where a script that was "
        "run directly saved it. Repeatable.",
    ),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape",
        metavar="[NAME:]1x3x224x224",
        help="Shape of an input. Repeatable. The batch axis stays dynamic where the target allows it.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Seeds the random inputs.")]

Target = Annotated[str, typer.Option("--target", "-t", help="What to build: onnx, trt, trt-rtx, ...")]
Out = Annotated[
    str | None,
    typer.Option(
        "-o", "--out", metavar="OUT_DIR", help="The bundle's folder. Default: MODEL-TARGET-PRECISION."
    ),
]
MinShapes = Annotated[
    list[str] | None,
    typer.Option("--minShapes", metavar="[NAME:]DIMS", help="Smallest shape of a dynamic input."),
]
OptShapes = Annotated[
    list[str] | None,
    typer.Option("--optShapes", metavar="[NAME:]DIMS", help="Shape to build the fastest code for."),
]
MaxShapes = Annotated[
    list[str] | None,
    typer.Option("--maxShapes", metavar="[NAME:]DIMS", help="Largest shape of a dynamic input."),
]
PrecisionName = Annotated[
    str | None,
    typer.Option("--precision", metavar="{fp32|fp16|bf16|int8|fp8}", help="Numeric type. Default: fp32."),
]
Fp16 = Annotated[bool, typer.Option("--fp16", "--half", help="Same as --precision fp16.")]
Bf16 = Annotated[bool, typer.Option("--bf16", help="Same as --precision bf16.")]
Int8 = Annotated[bool, typer.Option("--int8", help="Same as --precision int8; wants --calib.")]
Fp8 = Annotated[bool, typer.Option("--fp8", help="Same as --precision fp8; wants --calib.")]
Opset = Annotated[int | None, typer.Option("--opset", help="ONNX opset of the graph.")]
GateName = Annotated[
    str,
    typer.Option(
        "--gate",
        metavar="{exact|sigmoid}",
        help="How SRU's gate is written. sigmoid: the paper's literal formula, which flips gates; to compare with.",
    ),
]
IoDtype = Annotated[
    str,
    typer.Option(
        "--io-dtype", metavar="{fp32|fp16|bf16}", help="Type of floating inputs and outputs. Default: fp32."
    ),
]
MaxFlipRate = Annotated[
    float | None,
    typer.Option(
        "--max-flip-rate",
        metavar="SHARE",
        help="Largest share of a block's gates that may decide otherwise than float64 truth, 0 to 1. Where it is "
        "given, gates that int8 and fp8 codes of SRU's input flip count too.",
    ),
]
Atol = Annotated[
    list[str] | None,
    typer.Option(
        "--atol",
        metavar="[OUTPUT:]1e-3",
        help="Absolute part of the end-to-end limit. Repeatable, per output.",
    ),
]
Rtol = Annotated[
    list[str] | None,
    typer.Option(
        "--rtol",
        metavar="[OUTPUT:]1e-3",
        help="Part of the end-to-end limit that multiplies the output's largest magnitude. Repeatable.",
    ),
]
CheckErrorStat = Annotated[
    str | None,
    typer.Option(
        "--check-error-stat",
        metavar="{elemwise|max|mean|median|quantile}",
        help="Which statistic of an output's error the limit applies to.",
    ),
]
Bisect = Annotated[
    bool, typer.Option("--bisect", help="On failure, look inside the first wrong block for the operator.")
]
FormName = Annotated[
    str,
    typer.Option(
        "--form",
        metavar="{standard|plugin}",
        help="standard: ONNX standard operators only; plugin: fused scconv:: operators.",
    ),
]
Variant = Annotated[
    str | None, typer.Option("--variant", help="Settles which SCConv an ambiguous state_dict belongs to.")
]
Calib = Annotated[
    str | None,
    typer.Option("--calib", metavar="PATH", help="Real samples (.npz, .npy): for verification and INT8."),
]
CalibMethodName = Annotated[
    str,
    typer.Option(
        "--calib-method",
        metavar="{minmax|percentile}",
        help="int8, fp8: ranges from the samples' extremes, or from 99.99 % of their values.",
    ),
]
Rest = Annotated[
    str | None,
    typer.Option(
        "--rest",
        metavar="{fp32|fp16}",
        help="int8, fp8: type of what is not quantised. Default: fp16 for TensorRT, else fp32.",
    ),
]
ComputeCapability = Annotated[
    str | None,
    typer.Option(
        "--compute-capability",
        metavar="sm_89,...",
        help="GPU generations to build for ahead of time. Default: all that the precision allows.",
    ),
]
Workspace = Annotated[
    int | None, typer.Option("--workspace", metavar="MIB", help="Builder's scratch memory in MiB.")
]
Autotune = Annotated[
    float | None,
    typer.Option(
        "--autotune",
        metavar="SECONDS",
        help="Time graph forms of each block on this machine for about so long and take the fastest (onnx, fp32).",
    ),
]
NoSimplify = Annotated[bool, typer.Option("--no-simplify", help="Skip onnxsim.")]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Skip the comparison with PyTorch (recorded).")]
Package = Annotated[
    list[str] | None,
    typer.Option(
        "--package",
        metavar="{triton|triton-python|kserve}",
        help="Also write OUT_DIR-<package> for another server. Repeatable.",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace an existing bundle, once the new one is proved.")
]

Samples = Annotated[
    str | None,
    typer.Option(
        "--samples", "--calib", metavar="PATH", help="Inputs to compare on. Default: the bundle's own."
    ),
]
Batches = Annotated[str, typer.Option("--batch", metavar="1,8,...", help="Batch sizes to measure.")]
Threads = Annotated[str, typer.Option("--threads", metavar="1,2,...", help="Thread counts to measure.")]
WarmUp = Annotated[int, typer.Option("--warmUp", metavar="MS", help="Unmeasured running first, in ms.")]
Duration = Annotated[float, typer.Option("--duration", metavar="S", help="Measure at least so many seconds.")]
Iterations = Annotated[int, typer.Option("--iterations", help="Time at least so many calls.")]
Yardstick = Annotated[
    str | None, typer.Option("--yardstick", help="The subject that ratios refer to. Default: the first.")
]
