// The operator scconv::Block: a whole SCConv block on tensors in the runtime's blocked layout.
//
// No exported file has it: runtime/block_fusion.py puts it in the place of a block's nodes when a model is
// opened, and packs the weights for the runtime's block.
//
// Attributes: sru, fuse (the names of the operators it stands for), groups, epsilon, logit (SRU's),
// gwc_groups, kernel, y2_copied_from, block. Inputs, all float: x; SRU's constants; weight and bias of both
// squeezes; GWC's weight, PWC1's, the bias of y1; weight and bias of y2; scale and shift with "_affine"; with
// "_add" what is added.
#pragma once

#include "ort_api.h"

namespace scconv {
namespace ort {

// Of the attributes and inputs above; asked through scconv_block_version().
constexpr int kBlockVersion = 1;

const OrtCustomOp& block_operator();

}  // namespace ort
}  // namespace scconv
