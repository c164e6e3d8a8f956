// CRU's fuse: y1, y2 of (N, C, H, W) -> weights * y1 + weights' * y2, scaled, shifted, perhaps through ReLU.
#pragma once

#include "kernels.h"

namespace scconv {

struct FuseForm {
  bool pair = false;    // softmax per channel over (y1, y2); else one softmax over all 2C means
  bool affine = false;  // a BatchNorm folded in: out = scale * (...) + shift
  bool relu = false;
};

struct Fuse {
  FuseForm form;
  Type type = kFloat;
  size_t batch = 0, channels = 0, plane = 0;  // plane = H * W
  const float* scale = nullptr;               // (C), with form.affine
  const float* shift = nullptr;               // (C), with form.affine
  const void* y1 = nullptr;
  const void* y2 = nullptr;
  void* out = nullptr;
};

void compute(const Fuse& fuse, const Kernels& kernels, const Parallel& parallel);

}  // namespace scconv
