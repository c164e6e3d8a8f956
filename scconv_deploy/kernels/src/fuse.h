// CRU's fuse: y1, y2 of (N, C, H, W) -> weights * y1 + weights' * y2, scaled, shifted, perhaps through ReLU.
#pragma once

#include "kernels.h"

namespace scconv {

struct FuseForm {
  bool pair = false;    // softmax per channel over (y1, y2); else one softmax over all 2C means
  bool affine = false;  // a BatchNorm folded in: out = scale * (...) + shift
  bool added = false;   // a tensor of out's shape is added after that
  bool relu = false;
};

struct Fuse {
  FuseForm form;
  Type type = kFloat;
  size_t batch = 0, channels = 0, plane = 0;  // plane = H * W
  size_t block = 0;  // 0: (N, C, H, W); else (N, C/block, H, W, block), floats
  const float* scale = nullptr;               // (C), with form.affine
  const float* shift = nullptr;               // (C), with form.affine
  const void* y1 = nullptr;
  const void* y2 = nullptr;
  const void* added = nullptr;  // with form.added
  void* out = nullptr;
};

void compute(const Fuse& fuse, const Kernels& kernels, const Parallel& parallel);

// For compute() alone: every tensor in the blocked layout.
void compute_blocked(const Fuse& fuse, const Kernels& kernels, const Parallel& parallel);

}  // namespace scconv
