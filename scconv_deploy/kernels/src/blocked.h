// The inner loops over ONNX Runtime's blocked layout: every lane is a channel, every row a position.
//
// A block is kVectors vectors wide. The second and later vectors are done after the first, stretch by
// stretch, so that what belongs to a channel stays in registers and the stretch in L1.
#pragma once

#include "gate.h"
#include "pool.h"

namespace scconv {
namespace {

typedef double Doubles __attribute__((vector_size(8 * SCCONV_LANES)));

// Rows that are worked on before the next vector of a block: small enough for L1.
constexpr size_t kStretch = 64;

inline Doubles widened(Floats x) { return __builtin_convertvector(x, Doubles); }
inline Floats narrowed(Doubles x) { return __builtin_convertvector(x, Floats); }

// Per lane, the sum of term(row) over all rows: eight at a time in pairs of pairs, which rounds three times,
// and then in double.
template <typename Term>
inline Doubles sum_rows(size_t rows, const Term& term) {
  Doubles sum{};
  size_t row = 0;
  for (; row + 8 <= rows; row += 8) {
    const Floats first = (term(row) + term(row + 1)) + (term(row + 2) + term(row + 3));
    const Floats second = (term(row + 4) + term(row + 5)) + (term(row + 6) + term(row + 7));
    sum += widened(first + second);
  }
  for (; row < rows; ++row) sum += widened(term(row));
  return sum;
}

template <size_t kVectors>
void block_sums(const float* x, size_t rows, double* per_channel) {
  for (size_t vector = 0; vector < kVectors; ++vector) {
    const float* from = x + vector * kLanes;
    const Doubles sum = sum_rows(rows, [=](size_t row) { return load(from + row * kVectors * kLanes); });
    for (size_t lane = 0; lane < kLanes; ++lane) per_channel[vector * kLanes + lane] = sum[lane];
  }
}

// Adds to every channel of a block the products of its weights, `count` rows of them, with the inputs.
template <size_t kVectors>
void block_products(const float* weights, const double* inputs, size_t count, double* per_channel) {
  for (size_t vector = 0; vector < kVectors; ++vector) {
    const float* from = weights + vector * kLanes;
    double* to = per_channel + vector * kLanes;
    Doubles even{}, odd{};
    size_t i = 0;
    for (; i + 2 <= count; i += 2) {
      even += inputs[i] * widened(load(from + i * kVectors * kLanes));
      odd += inputs[i + 1] * widened(load(from + (i + 1) * kVectors * kLanes));
    }
    if (i < count) even += inputs[i] * widened(load(from + i * kVectors * kLanes));
    even += odd;
    for (size_t lane = 0; lane < kLanes; ++lane) to[lane] += even[lane];
  }
}

// As block_moments in gate.h, lane by lane.
template <size_t kVectors>
void block_moments(const float* x, size_t rows, Moments* per_channel) {
  for (size_t vector = 0; vector < kVectors; ++vector) {
    const float* from = x + vector * kLanes;
    const auto value = [=](size_t row) { return load(from + row * kVectors * kLanes); };
    const double count = static_cast<double>(rows);
    // In double from the start: a group of few channels is a mean of few values, and what is lost here stays
    // visible where x is near the mean.
    Doubles sum{};
    for (size_t row = 0; row < rows; ++row) sum += widened(value(row));
    const Doubles mean = sum / count;
    const Floats centre = narrowed(mean);
    Floats low = centre, high = centre;
    const Doubles squares = sum_rows(rows, [&](size_t row) {
      const Floats here = value(row);
      const Floats d = here - centre;
      low = lower(here, low);
      high = higher(here, high);
      return d * d;
    });
    const Doubles off = mean - widened(centre);
    const Doubles m2 = squares - count * off * off;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      // Not max(0, m2): a NaN must stay one.
      per_channel[vector * kLanes + lane] = {count, mean[lane], m2[lane] < 0.0 ? 0.0 : m2[lane], low[lane],
                                             high[lane]};
    }
  }
}

// From a block's arrays, the gates of one vector of channels.
template <Gate kGate, bool kNormalised>
inline LaneGate lanes_at(const BlockGate::Channels& c, size_t channel) {
  LaneGate gate{load(c.slope + channel), load(c.centre + channel), load(c.offset + channel), Floats{},
                Floats{}};
  if constexpr (kNormalised) gate.weight = load(c.weight + channel);
  if constexpr (kGate == kStatic) gate.mask = load(c.mask + channel);
  return gate;
}

// kAtLeast is known here, because one comparison instead of two halves the work on masks.
template <size_t kVectors, Gate kGate, bool kNormalised, bool kWithin, Reach kReach, bool kAtLeast>
inline void gate_rows(const float* x_a, const float* x_b, float* y_a, float* y_b, size_t rows,
                      const BlockGate& gate) {
  const float logit = gate.logit;
  for (size_t start = 0; start < rows; start += kStretch) {
    const size_t end = start + kStretch < rows ? start + kStretch : rows;
    for (size_t vector = 0; vector < kVectors; ++vector) {
      const LaneGate a = lanes_at<kGate, kNormalised>(gate.a, vector * kLanes);
      const LaneGate b = lanes_at<kGate, kNormalised>(gate.b, vector * kLanes);
      for (size_t row = start; row < end; ++row) {
        const size_t at = (row * kVectors + vector) * kLanes;
        const Halves y = halves<kWithin>(
            branches<kGate, kNormalised, kReach>(load(x_a + at), a, logit, kAtLeast ? -1 : 0),
            branches<kGate, kNormalised, kReach>(load(x_b + at), b, logit, kAtLeast ? -1 : 0));
        store(y_a + at, y.a);
        store(y_b + at, y.b);
      }
    }
  }
}

template <size_t kVectors, Gate kGate, bool kNormalised, bool kWithin, Reach kReach>
void block_gate(const float* x_a, const float* x_b, float* y_a, float* y_b, size_t rows,
                const BlockGate& gate) {
  if (kGate != kStatic && gate.at_least != 0) {
    gate_rows<kVectors, kGate, kNormalised, kWithin, kReach, true>(x_a, x_b, y_a, y_b, rows, gate);
  } else {
    gate_rows<kVectors, kGate, kNormalised, kWithin, kReach, false>(x_a, x_b, y_a, y_b, rows, gate);
  }
}

template <size_t kVectors, bool kAdded, bool kRelu>
void block_combine(const float* y1, const float* y2, const float* added, float* out, size_t rows,
                   const float* weight1, const float* weight2, const float* shift) {
  for (size_t start = 0; start < rows; start += kStretch) {
    const size_t end = start + kStretch < rows ? start + kStretch : rows;
    for (size_t vector = 0; vector < kVectors; ++vector) {
      const size_t channel = vector * kLanes;
      const Floats w1 = load(weight1 + channel), w2 = load(weight2 + channel), s = load(shift + channel);
      for (size_t row = start; row < end; ++row) {
        const size_t at = (row * kVectors + vector) * kLanes;
        Floats value = w1 * load(y1 + at) + w2 * load(y2 + at) + s;
        if constexpr (kAdded) value += load(added + at);
        store(out + at, active<kRelu>(value));
      }
    }
  }
}

}  // namespace
}  // namespace scconv
