// A whole SCConv block in the blocked layout: x of (N, C, H, W) -> out of (N, outputs, H, W), without any of
// the tensors between its parts in memory.
//
//   y_a, y_b = SRU(x);  up = squeeze_up(first up_inputs channels of [y_a; y_b]);  low = squeeze_low(the
//   others) y1 = GWC(up) + PWC1(up) + y1_bias;  y2 = [PWC2; I] low + y2_bias;  out = fuse(y1, y2 [, added])
#pragma once

#include "fuse.h"
#include "sru.h"

namespace scconv {

constexpr size_t kLargestKernel = 11;

// Weights are packed for `sru.block` = b: [outputs / b][inputs of a group][b], with a kernel before the
// inputs.
struct Block {
  Sru sru;  // all but y_a and y_b
  FuseForm fuse;
  size_t height = 0, width = 0;
  size_t up = 0, low = 0, outputs = 0;  // channels; as C/2, multiples of the block
  size_t up_inputs = 0;                 // of C
  size_t groups = 1;                    // of GWC; outputs / groups is a multiple of the block
  size_t kernel = 3;                    // of GWC, odd
  size_t copied_from = 0;               // y2's channels from here on are `low`; a multiple of the block
  const float* squeeze_up = nullptr;    // [up / b][up_inputs][b]
  const float* squeeze_up_bias = nullptr;
  const float* squeeze_low = nullptr;  // [low / b][C - up_inputs][b]
  const float* squeeze_low_bias = nullptr;
  const float* gwc = nullptr;   // [outputs / b][kernel][kernel][up / groups][b]
  const float* pwc1 = nullptr;  // [outputs / b][up][b]; an output's own group in GWC's centre, not here
  const float* y1_bias = nullptr;
  const float* y2 = nullptr;  // [outputs / b][low][b]
  const float* y2_bias = nullptr;
  const float* scale = nullptr;  // (outputs), with fuse.affine
  const float* shift = nullptr;
  const float* added = nullptr;  // with fuse.added
  float* out = nullptr;
};

void compute(const Block& block, const Kernels& kernels, const Parallel& parallel);

}  // namespace scconv
