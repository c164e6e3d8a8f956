// SRU's statistics and gate over contiguous values (paper, equations 1 to 5; see scconv/emit_sru.py for the
// same in ONNX operators, which these loops follow down to what NaN and infinity become).
#pragma once

#include "simd.h"

namespace scconv {
namespace {

// Values that are added in floats, 16 to a lane of four vectors, before double takes over: an error below
// 1e-7 of the values' size at full speed, and a sum of small integers stays exact. They also stay in L1
// between the two passes over them.
constexpr size_t kBlock = 64 * kLanes;

// The sum of x - pivot.
template <typename T>
inline double block_sum(const T* x, size_t count, Floats pivot) {
  Floats s0{}, s1{}, s2{}, s3{};
  size_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    s0 += load(x + i) - pivot;
    s1 += load(x + i + kLanes) - pivot;
    s2 += load(x + i + 2 * kLanes) - pivot;
    s3 += load(x + i + 3 * kLanes) - pivot;
  }
  for (; i + kLanes <= count; i += kLanes) s0 += load(x + i) - pivot;
  if (i < count) s1 += load_rest(x, count, pivot) - pivot;
  return total((s0 + s1) + (s2 + s3));
}

// All but the extremes.
inline void merge(Moments& into, const Moments& other) {
  const double count = into.count + other.count;
  const double delta = other.mean - into.mean;
  into.mean += delta * (other.count / count);
  into.m2 += other.m2 + delta * delta * (into.count * other.count / count);
  into.count = count;
}

// A mean of few values has no others to even its rounding out: their sum is taken in double from the start.
constexpr size_t kFew = 16 * kLanes;

template <typename T>
inline double exact_sum(const T* x, size_t count) {
  double sum = 0.0;
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sum += total(load(x + i));
  return i < count ? sum + total(load_rest(x, count, Floats{})) : sum;
}

template <typename T>
inline double block_mean(const T* x, size_t count) {
  const double values = static_cast<double>(count);
  if (count <= kFew) return exact_sum(x, count) / values;
  // From the first value on, so that a mean far from zero takes no digits from the distances.
  const float pivot = load_some(x, 1)[0];
  return pivot + block_sum(x, count, all(pivot)) / values;
}

// Per lane, of all that was seen.
struct Extremes {
  Floats low;
  Floats high;
};

// Without extremes, which go into `seen`.
template <typename T>
inline Moments block_moments(const T* x, size_t count, Extremes& seen) {
  const double mean = block_mean(x, count);
  const float centre = static_cast<float>(mean);
  const Floats middle = all(centre);
  Floats q0{}, q1{}, low = seen.low, high = seen.high;
  size_t i = 0;
  const auto take = [&](Floats values, Floats& squares) {
    const Floats d = values - middle;
    squares += d * d;
    low = lower(values, low);
    high = higher(values, high);
  };
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    take(load(x + i), q0);
    take(load(x + i + kLanes), q1);
  }
  for (; i + kLanes <= count; i += kLanes) take(load(x + i), q0);
  if (i < count) take(load_rest(x, count, middle), q1);
  seen = {low, high};
  // Distances were taken from the rounded mean; sum (x - m)^2 - n (mean - m)^2 puts that right.
  const double values = static_cast<double>(count), off = mean - centre;
  const double m2 = total(q0 + q1) - values * off * off;
  // Not max(0, m2): a NaN must stay one.
  return {values, mean, m2 < 0.0 ? 0.0 : m2, 0.0f, 0.0f};
}

template <typename T>
Moments moments(const void* data, size_t count) {
  const T* x = static_cast<const T*>(data);
  Moments whole{};
  Extremes seen{};
  if (count > 0) seen.low = seen.high = all(load_some(x, 1)[0]);
  for (size_t start = 0; start < count; start += kBlock) {
    const size_t length = count - start < kBlock ? count - start : kBlock;
    const Moments part = block_moments(x + start, length, seen);
    if (start == 0)
      whole = part;
    else
      merge(whole, part);
  }
  whole.low = lowest(seen.low);
  whole.high = highest(seen.high);
  return whole;
}

// sigmoid(s). Where |s| is bounded, an odd polynomial around 1/2 (least squares at Chebyshev nodes) is exact
// to the rounding of floats, at half the cost of exp and a division.
template <Reach kReach>
inline Floats sigmoid(Floats s) {
  if constexpr (kReach == kAnywhere) {
    return 1.0f / (1.0f + exponential(-s));
  } else {
    const Floats u = s * s;
    Floats p;
    if constexpr (kReach == kNarrow) {
      p = all(-2.0050395688e-4f);
    } else {
      p = all(1.0517340598e-7f);
      p = p * u - 1.8632291585e-6f;
      p = p * u + 2.0931542167e-5f;
      p = p * u - 2.1049422503e-4f;
    }
    p = p * u + (kReach == kNarrow ? 2.0817413460e-3f : 2.0832172595e-3f);
    p = p * u + (kReach == kNarrow ? -2.0833253860e-2f : -2.0833317190e-2f);
    p = p * u + 0.25f;
    return p * s + 0.5f;
  }
}

struct Branches {
  Floats kept;
  Floats rest;
};

// A ChannelGate per lane.
struct LaneGate {
  Floats slope;
  Floats centre;
  Floats offset;
  Floats weight;
  Floats mask;
};

inline LaneGate lanes_of(const ChannelGate& c) {
  return {all(c.slope), all(c.centre), all(c.offset), all(c.weight), all(c.mask)};
}

template <Gate kGate, bool kNormalised, Reach kReach>
inline Branches branches(Floats x, const LaneGate& c, float threshold, int32_t at_least) {
  // Centred first: where x is the mean exactly, s is the shift exactly, however large the mean.
  const Floats affine = c.slope * (x - c.centre) + c.offset;
  const Floats s = kNormalised ? c.weight * affine : affine;
  const Floats gated = kNormalised ? affine : x;
  if constexpr (kGate == kStatic) {
    const Floats p = sigmoid<kReach>(s) * gated;
    const Floats kept = c.mask * p;
    return {kept, p - kept};
  } else {
    const Floats logit = all(threshold);
    const Ints above = (s > logit) | ((s == logit) & at_least);
    const Floats m = above ? all(1.0f) : Floats{};
    // Products with 0 and 1, not selections: 0 * inf is NaN in the standard form too.
    if constexpr (kGate == kHard) {
      const Floats kept = m * gated;
      return {kept, gated - kept};
    } else {
      const Floats r = sigmoid<kReach>(s);
      const Floats w1 = above ? m : r;
      const Floats w2 = kGate == kSoft ? w1 - m : r * m;
      return {w1 * gated, w2 * gated};
    }
  }
}

struct Halves {
  Floats a;
  Floats b;
};

template <bool kWithin>
inline Halves halves(const Branches& a, const Branches& b) {
  if constexpr (kWithin) return {a.kept + b.kept, a.rest + b.rest};
  return {a.kept + b.rest, b.kept + a.rest};
}

template <typename T, Gate kGate, bool kNormalised, bool kWithin, Reach kReach>
void gate_run(const void* given_a, const void* given_b, void* made_a, void* made_b, size_t count,
              const RunGate& run) {
  const T* x_a = static_cast<const T*>(given_a);
  const T* x_b = static_cast<const T*>(given_b);
  T* y_a = static_cast<T*>(made_a);
  T* y_b = static_cast<T*>(made_b);
  const LaneGate gate_a = lanes_of(run.a), gate_b = lanes_of(run.b);
  const float logit = run.logit;
  const int32_t at_least = run.at_least;
  const auto gated = [&](Floats a, Floats b) {
    return halves<kWithin>(branches<kGate, kNormalised, kReach>(a, gate_a, logit, at_least),
                           branches<kGate, kNormalised, kReach>(b, gate_b, logit, at_least));
  };
  if (count < kLanes) {
    const Halves y = gated(load_some(x_a, count), load_some(x_b, count));
    store_some(y_a, y.a, count);
    store_some(y_b, y.b, count);
    return;
  }
  // The last vector overlaps the one before it: the same values are written twice.
  for (size_t i = 0; i < count; i += kLanes) {
    const size_t at = i + kLanes <= count ? i : count - kLanes;
    const Halves y = gated(load(x_a + at), load(x_b + at));
    store(y_a + at, y.a);
    store(y_b + at, y.b);
  }
}

}  // namespace
}  // namespace scconv
