"""Model zoo: architecture name + plain settings -> trainable network, with and without SCConv.

``scconv_resnet20`` and ``scconv_resnet56`` (CIFAR form, 32x32), ``scconv_resnet18``, ``scconv_resnet50`` and
``scconv_resnet101`` (224x224), each with its plain counterpart ``resnet20`` and so on. Where a 3x3 is
replaced and how stride 2 is done is written in ``zoo/blocks.py``; parameters and multiply-accumulates
against the paper are printed by ``python -m scconv_deploy.scconv.zoo``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from scconv_deploy.errors import InputError, nearest
from scconv_deploy.scconv.zoo.blocks import BasicBlock, Bottleneck
from scconv_deploy.scconv.zoo.resnet import Block, ResNet
from scconv_deploy.scconv.zoo.settings import Setting, Settings, apply

__all__ = ["ARCHITECTURES", "Architecture", "Settings", "architecture", "build", "default_input"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """A builder: settings over these defaults -> network."""

    name: str
    block: Block
    defaults: Settings
    imagenet_stem: bool
    plain: bool

    def settings(self, given: Mapping[str, Setting]) -> Settings:
        """The defaults with ``given`` in place. Raises InputError in words."""
        return apply(self.defaults, given, self.name, self.plain)

    def __call__(self, settings: Settings) -> nn.Module:
        """A freshly initialised network."""
        return ResNet(self.block, settings, imagenet_stem=self.imagenet_stem, plain=self.plain)


def _architectures() -> dict[str, Architecture]:
    found = {}
    for depth, block, blocks in (
        (18, BasicBlock, (2, 2, 2, 2)),
        (20, BasicBlock, (3, 3, 3)),
        (50, Bottleneck, (3, 4, 6, 3)),
        (56, BasicBlock, (9, 9, 9)),
        (101, Bottleneck, (3, 4, 23, 3)),
    ):
        cifar = len(blocks) == 3
        defaults = Settings(
            in_channels=3,
            num_classes=10 if cifar else 1000,
            width=16 if cifar else 64,
            blocks=blocks,
            image=32 if cifar else 224,
        )
        for prefix, plain in (("scconv_", False), ("", True)):
            name = f"{prefix}resnet{depth}"
            found[name] = Architecture(name, block, defaults, imagenet_stem=not cifar, plain=plain)
    return found


ARCHITECTURES: dict[str, Architecture] = _architectures()


def architecture(name: str) -> Architecture:
    """The architecture of that name. Raises InputError with the nearest name on a miss."""
    if name not in ARCHITECTURES:
        raise InputError(
            f"architecture '{name}' is unknown; choose one of {', '.join(sorted(ARCHITECTURES))}"
            f"{nearest(name, ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def build(name: str, **settings: Setting) -> nn.Module:
    """A freshly initialised network, float32, in training mode: (N, in_channels, H, W) -> (N, num_classes).

    Args:
        name: a key of :data:`ARCHITECTURES`.
        settings: fields of :class:`Settings` to change; plain networks take no SCConv settings.

    Raises:
        InputError: unknown architecture or setting (the nearest name is given), or an unusable value.
    """
    chosen = architecture(name)
    return chosen(chosen.settings(settings))


def default_input(name: str, settings: Mapping[str, Setting] | None = None) -> tuple[int, ...]:
    """Shape of one sample without the batch axis, such as (3, 224, 224). Raises InputError as ``build``."""
    chosen = architecture(name).settings(settings or {})
    return (chosen.in_channels, chosen.image, chosen.image)
