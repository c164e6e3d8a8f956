// SRU's gate for one value (paper, equations 2 to 5): the same forms as kernels/src/gate.h, down to what NaN
// and infinity become.
#pragma once

#include "device.cuh"
#include "numbers.cuh"

namespace scconv {

enum Gate { kHard, kSoft, kComplementSoft, kStatic };

template <Gate kKind, bool kDeviation, bool kAtLeast, bool kNormalisedInput, bool kWithinHalves>
struct SruForm {
  static constexpr Gate kGate = kKind;
  static constexpr bool kStd = kDeviation;
  static constexpr bool kGe = kAtLeast;
  static constexpr bool kNormalised = kNormalisedInput;
  static constexpr bool kWithin = kWithinHalves;
};

struct SruConstants {
  const float* scale;
  const float* shift;
  const float* weight;  // null where the input itself is gated
  const float* mask;    // null but for a static gate
  float epsilon;
  float logit;
};

// Statistics of one group: x - centre is exact near the mean; `rest` is what rounding took from the mean.
struct Norm {
  float centre;
  float rest;
  float inverse;
};

template <typename Form>
__device__ __forceinline__ Norm norm_of(const Moments& all, float pivot, float epsilon) {
  Norm norm;
  norm.centre = pivot + all.mean;
  norm.rest = (pivot - norm.centre) + all.mean;
  const float sigma = Form::kStd ? sqrtf(all.m2 / (all.count - 1.0f)) + epsilon
                                 : sqrtf(all.m2 / all.count + epsilon);
  norm.inverse = 1.0f / sigma;
  return norm;
}

// affine(x) = slope * (x - centre) + offset
struct Channel {
  float slope;
  float centre;
  float offset;
  float weight;
  float mask;
};

template <typename Form>
__device__ __forceinline__ Channel channel_of(const SruConstants& constants, const Norm& norm, int index) {
  Channel channel;
  channel.slope = constants.scale[index] * norm.inverse;
  channel.centre = norm.centre;
  channel.offset = constants.shift[index] - channel.slope * norm.rest;
  channel.weight = Form::kNormalised ? constants.weight[index] : 1.0f;
  channel.mask = Form::kGate == kStatic ? constants.mask[index] : 0.0f;
  return channel;
}

__device__ __forceinline__ float sigmoid(float s) { return __fdividef(1.0f, 1.0f + __expf(-s)); }

struct Branches {
  float kept;
  float rest;
};

template <typename Form>
__device__ __forceinline__ Branches branches(float x, const Channel& channel, float logit) {
  // Centred first: where x is the mean exactly, s is the shift exactly, however large the mean.
  const float affine = channel.slope * (x - channel.centre) + channel.offset;
  const float s = Form::kNormalised ? channel.weight * affine : affine;
  const float gated = Form::kNormalised ? affine : x;
  if constexpr (Form::kGate == kStatic) {
    const float p = sigmoid(s) * gated;
    const float kept = channel.mask * p;
    return {kept, p - kept};
  } else {
    const bool above = Form::kGe ? s >= logit : s > logit;
    // Products with 0 and 1, not selections: 0 * inf is NaN in the function's body too.
    const float m = above ? 1.0f : 0.0f;
    if constexpr (Form::kGate == kHard) {
      const float kept = m * gated;
      return {kept, gated - kept};
    } else {
      const float r = sigmoid(s);
      const float w1 = above ? 1.0f : r;
      const float w2 = Form::kGate == kSoft ? w1 - m : r * m;
      return {w1 * gated, w2 * gated};
    }
  }
}

template <typename Form>
__device__ __forceinline__ void halves(float& a, float& b, const Channel& at_a, const Channel& at_b,
                                       float logit) {
  const Branches from_a = branches<Form>(a, at_a, logit), from_b = branches<Form>(b, at_b, logit);
  a = Form::kWithin ? from_a.kept + from_b.kept : from_a.kept + from_b.rest;
  b = Form::kWithin ? from_a.rest + from_b.rest : from_b.kept + from_a.rest;
}

}  // namespace scconv
