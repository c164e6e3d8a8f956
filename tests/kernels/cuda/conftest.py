"""One library of emulated kernels per session: the forms that the default tier looks at."""

from __future__ import annotations

import pytest

from scconv_deploy.kernels.ptx import BYTES, KernelSpec, Layout
from tests.kernels.cuda.emulated import Emulated

SRU = ("SRU_soft", "SRU_hard_ge_within", "SRU_complement_soft_normalised", "SRU_static_std")
FUSE = ("joint_affine_relu", "pair", "joint_affine_add_relu", "joint")
TYPES = ("fp32", "fp16", "bf16")
WHOLE_SRU, WHOLE_FUSE = "SRUWhole_soft", "CRUMixWhole_joint_affine_relu"


def kernels(sru: tuple[str, ...], fuse: tuple[str, ...], types: tuple[str, ...]) -> list[KernelSpec]:
    """Every kernel of these operators: planar, and channels last in its widths."""
    found = []
    for dtype in types:
        widths = (4, 1)
        for operator in sru:
            found += [KernelSpec(operator, dtype)]
            found += [KernelSpec(operator, dtype, Layout.LAST, each) for each in widths]
        mixes = [form if form.startswith("CRU") else f"CRUMix_{form}" for form in fuse]
        pools = {m.partition("_")[0].replace("Mix", "Pool") for m in mixes}
        for operator in (*sorted(pools), *mixes):
            found += [KernelSpec(operator, dtype)]
            found += [KernelSpec(operator, dtype, Layout.LAST, each) for each in (16 // BYTES[dtype], 1)]
    return found


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    specs = [
        *kernels((*SRU, WHOLE_SRU), (*FUSE, WHOLE_FUSE), ("fp32",)),
        *kernels(SRU[:1], FUSE[:1], ("fp16", "bf16")),
    ]
    return Emulated(tmp_path_factory.mktemp("emulated"), specs)
