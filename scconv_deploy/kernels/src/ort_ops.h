// The operators scconv::SRU_* and scconv::CRUFuse_* as ONNX Runtime sees them.
//
// One type per form, because the model-local function that stands for it elsewhere cannot branch on
// attributes: SRU_{hard,soft,complement_soft,static}[_std][_ge][_normalised][_within] and
// CRUFuse_{joint,pair}[_affine][_add][_relu]; scconv/fused_ops.py has the same names.
//
// SRU_*     x (T), scale, shift [, weight][, mask] (float) -> y_a, y_b (T); groups, epsilon [, logit]
// CRUFuse_* y1, y2 (T) [, scale, shift (float)][, added (T)] -> out (T)
//
// With the attribute `block`, the tensors of type T are in the runtime's blocked layout.
#pragma once

#include <vector>

#include "ort_api.h"

namespace scconv {
namespace ort {

// Every form in float and in float16; made once, alive as long as the library.
const std::vector<const OrtCustomOp*>& operators();

}  // namespace ort
}  // namespace scconv
