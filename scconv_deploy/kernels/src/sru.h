// Spatial Reconstruction Unit: x of (N, C, H, W) -> y_a, y_b, each (N, C/2, H, W).
#pragma once

#include "kernels.h"

namespace scconv {

// Structure of the unit: what scconv/spec.py calls SRUSpec.
struct SruForm {
  Gate gate = kHard;
  bool standard_deviation = false;  // unbiased, eps outside the root (group_std), else group_norm
  bool at_least = false;            // s >= logit, else s > logit
  bool normalised = false;          // the normalised tensor is gated, else the input
  bool within = false;              // halves of one branch are added, else the cross reconstruction
};

struct Sru {
  SruForm form;
  Type type = kFloat;
  size_t batch = 0, channels = 0, plane = 0;  // plane = H * W
  size_t groups = 1;                          // cut from the flat C * H * W values; must divide them
  size_t block = 0;  // 0: (N, C, H, W); else (N, C/block, H, W, block), floats, and `groups` divides C
  double epsilon = 0.0;
  float logit = 0.0f;
  const float* scale = nullptr;   // (C): s, or the normalised tensor, is scale * xhat + shift
  const float* shift = nullptr;   // (C)
  const float* weight = nullptr;  // (C), with form.normalised
  const float* mask = nullptr;    // (C), with kStatic
  const void* x = nullptr;
  void* y_a = nullptr;
  void* y_b = nullptr;
};

void compute(const Sru& sru, const Kernels& kernels, const Parallel& parallel);

// For compute() alone: x, y_a and y_b in the blocked layout.
void compute_blocked(const Sru& sru, const Kernels& kernels, const Parallel& parallel);

}  // namespace scconv
