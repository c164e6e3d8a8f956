// CRU's fuse over contiguous values (paper, equations 7 to 9): pooled sums, the softmax, the weighted sum.
#pragma once

#include "gate.h"

namespace scconv {
namespace {

template <typename T>
double sum(const void* data, size_t count) {
  const T* x = static_cast<const T*>(data);
  double whole = 0.0;
  for (size_t start = 0; start < count; start += kBlock) {
    whole += block_sum(x + start, count - start < kBlock ? count - start : kBlock, Floats{});
  }
  return whole;
}

template <bool kRelu>
inline Floats active(Floats x) {
  // NaN < 0 is false: it passes, as through the runtime's own Relu.
  if constexpr (kRelu) return x < 0.0f ? Floats{} : x;
  return x;
}

// out = weight1 * y1 + weight2 * y2 + shift [+ added], perhaps followed by ReLU.
template <typename T, bool kAdded, bool kRelu>
void combine(const void* given1, const void* given2, const void* given3, void* made, size_t count,
             float weight1, float weight2, float shift) {
  const T* y1 = static_cast<const T*>(given1);
  const T* y2 = static_cast<const T*>(given2);
  const T* added = static_cast<const T*>(given3);
  T* out = static_cast<T*>(made);
  const auto mixed = [=](Floats a, Floats b) -> Floats { return weight1 * a + weight2 * b + shift; };
  if (count < kLanes) {
    Floats value = mixed(load_some(y1, count), load_some(y2, count));
    if constexpr (kAdded) value += load_some(added, count);
    store_some(out, active<kRelu>(value), count);
    return;
  }
  // The last vector overlaps the one before it, and `out` may not be `added`.
  for (size_t i = 0; i < count; i += kLanes) {
    const size_t at = i + kLanes <= count ? i : count - kLanes;
    Floats value = mixed(load(y1 + at), load(y2 + at));
    if constexpr (kAdded) value += load(added + at);
    store(out + at, active<kRelu>(value));
  }
}

// A difference of means in two floats: rounded to one, it alone would cost 1e-6 where the means are near 10.
struct Parts {
  Floats high;
  Floats low;
};

template <typename Difference>
inline Parts gather(size_t count, const Difference& difference) {
  Parts d{};
  for (size_t lane = 0; lane < count; ++lane) {
    const double exact = difference(lane);
    d.high[lane] = static_cast<float>(exact);
    // inf - inf would make a NaN of what is a legal weight of 0 or 1.
    const double rest = exact - static_cast<double>(d.high[lane]);
    d.low[lane] = rest == rest ? static_cast<float>(rest) : 0.0f;
  }
  return d;
}

inline Floats exponential(const Parts& d) { return exponential(d.high) * (1.0f + d.low); }

void joint_weights(const double* pooled, float* weights, size_t channels) {
  const size_t count = 2 * channels;
  double largest = pooled[0];
  for (size_t i = 1; i < count; ++i) largest = pooled[i] > largest ? pooled[i] : largest;
  double sum = 0.0;
  for (size_t i = 0; i < count; i += kLanes) {
    const size_t length = count - i < kLanes ? count - i : kLanes;
    const Parts d = gather(length, [=](size_t lane) { return pooled[i + lane] - largest; });
    const Floats e = exponential(d);
    for (size_t lane = 0; lane < length; ++lane) {
      weights[i + lane] = e[lane];
      sum += e[lane];
    }
  }
  const float scale = static_cast<float>(1.0 / sum);
  for (size_t i = 0; i < count; ++i) weights[i] *= scale;
}

// softmax(p, q) = (sigmoid(p - q), sigmoid(q - p)), by e^-|p - q| so that neither overflows.
void pair_weights(const double* pooled, float* weights, size_t channels) {
  for (size_t i = 0; i < channels; i += kLanes) {
    const size_t length = channels - i < kLanes ? channels - i : kLanes;
    const double* first_mean = pooled + i;
    const double* second_mean = pooled + channels + i;
    const Parts d = gather(length, [=](size_t lane) {
      const double difference = first_mean[lane] - second_mean[lane];
      return difference > 0.0 ? -difference : difference;
    });
    const Floats e = exponential(d);
    const Floats larger = 1.0f / (1.0f + e);
    const Floats smaller = e * larger;
    for (size_t lane = 0; lane < length; ++lane) {
      const bool first_is_larger = first_mean[lane] > second_mean[lane];
      weights[i + lane] = first_is_larger ? larger[lane] : smaller[lane];
      weights[channels + i + lane] = first_is_larger ? smaller[lane] : larger[lane];
    }
  }
}

}  // namespace
}  // namespace scconv
