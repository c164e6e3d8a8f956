"""What every host sample does when it is run: export its network from the command line, print the verdict."""

import argparse

import torch
from torch import nn

import scconv_deploy


def export_host(network: nn.Module, example_shape: tuple[int, ...], name: str) -> None:
    """Parse ``--target`` and ``-o``, export ``network`` for inputs of ``example_shape``, print the verdict."""
    parser = argparse.ArgumentParser(description=f"Export the sample network {name}.")
    parser.add_argument("--target", default="onnx")
    parser.add_argument("-o", "--out", default=f"out/{name}")
    args = parser.parse_args()
    bundle = scconv_deploy.export(
        network, torch.randn(example_shape), target=args.target, out=args.out, force=True
    )
    assert bundle.parity is not None
    print(f"{bundle.artifact}: {bundle.parity.verdict}, {bundle.parity.sentence}")
