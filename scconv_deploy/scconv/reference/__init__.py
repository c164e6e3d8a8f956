"""Reference SCConv: trainable modules that compute each variant literally, as ground truth.

A specification (or a family's name) -> an ``nn.Module`` written the way the source has it: sigmoid first,
then the comparison; halves split and concatenated; Python's builtin ``sum`` over the parameter. None of the
deploy rewrites appears here, so that recognition and tests compare against the function itself.
"""

from scconv_deploy.scconv.reference.families import FAMILIES, family_spec, scconv
from scconv_deploy.scconv.reference.norms import GroupStdNorm2d
from scconv_deploy.scconv.reference.units import (
    ReferenceCRU,
    ReferenceSCConv,
    ReferenceSRU,
    constants,
)

__all__ = [
    "FAMILIES",
    "GroupStdNorm2d",
    "ReferenceCRU",
    "ReferenceSCConv",
    "ReferenceSRU",
    "constants",
    "family_spec",
    "scconv",
]
