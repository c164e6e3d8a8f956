"""Which of several exactly equal graph forms a target runs best.

Every field selects between forms that compute the same function; an exporter returns the style that
suits its runtime, and ``lower`` passes it to the deploy modules. Imports neither torch nor onnx.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GraphStyle:
    """Forms to choose from.

    ``where_mask``: gate by ``Where`` (TensorRT fuses it) instead of Cast/Max/Sub arithmetic (ONNX Runtime on
    CPU runs ``Where`` at a fraction of memory speed).
    ``merged_y2``: ``Y2`` as one 1x1 convolution with the identity stacked under PWC2, instead of a Concat.
    ``concat_fuse``: pool the concatenated Y1 and Y2, instead of concatenating their pooled means; the
    weighted sum works on the pieces either way.
    ``gate_in_half``: in half precision, compute SRU's norm and comparison in the activations' type (sign form)
    instead of a float32 island; chosen per target by measurement (DECISIONS.md). No effect in fp32.
    ``literal_gate``: ``sigmoid(s) > t`` as the paper writes it (``--gate sigmoid``), for comparison only.
    ``fused``: the operators of ``fused_ops`` for SRU and for the fuse, where the type and the gate's form allow.
    ``shared_rest``: what a soft gate leaves to both halves is added up once (``emit_shared``).
    ``dense_y1_below``: GWC and PWC1 as one dense convolution (``dense_y1``) where a group of GWC reads fewer
    channels than this; 0 never. A rule rather than a choice, so that one style fits blocks of every width.
    ``channel_moments``: SRU's norm from the mean and the L2 norm of every channel (``emit_moments``), which needs
    no other layout, instead of a normalisation over reshaped groups; where the groups are whole channels.
    ``fused_bf16``: ``fused`` in bfloat16 too, for which only OpenVINO has kernels.
    ``centred_norm``: SRU's norm from centred float32 moments (``emit_centred``), which TensorRT makes one kernel of.
    ``cru_convolutions``: how few convolutions a CRU is written in, 5 (as it stands), 3 or 2 (``merged``); below 5
    the fuse pools [Y1; Y2] in one reduction (``emit_merged``). Supersedes ``merged_y2`` and ``concat_fuse``.
    """

    where_mask: bool = False
    merged_y2: bool = True
    concat_fuse: bool = False
    gate_in_half: bool = False
    literal_gate: bool = False
    fused: bool = False
    shared_rest: bool = False
    dense_y1_below: int = 0
    channel_moments: bool = False
    fused_bf16: bool = False
    centred_norm: bool = False
    cru_convolutions: int = 5
