// Loops over rows (positions) of one vector of channels; what belongs to a channel stays in registers.
#pragma once

#include "bfloat.h"
#include "blocked.h"

namespace scconv {
namespace {

// `count` rows of `width` channels.
template <typename T>
struct Rows {
  T* data;
  size_t count;
  size_t width;

  T* at(size_t row, size_t channel) const { return data + row * width + channel; }
};

// One vector of channels, the last `missing` lanes of which lie behind the tensor's last channel (kTail).
template <bool kTail>
struct Lanes {
  size_t channel;
  size_t count;

  template <typename T>
  Floats read(const Rows<T>& rows, size_t row) const {
    if constexpr (kTail) return load_some(rows.at(row, channel), count);
    return load(rows.at(row, channel));
  }

  template <typename T>
  void write(const Rows<T>& rows, size_t row, Floats values) const {
    if constexpr (kTail) return store_some(rows.at(row, channel), values, count);
    store(rows.at(row, channel), values);
  }
};

// body(Lanes) for every vector of `channels` channels.
template <typename Body>
inline void each_vector(size_t channels, const Body& body) {
  size_t channel = 0;
  for (; channel + kLanes <= channels; channel += kLanes) body(Lanes<false>{channel, kLanes});
  if (channel < channels) body(Lanes<true>{channel, channels - channel});
}

// body(first row, last row) for stretches of rows of which a tensor takes 8 KiB: a vector of channels reads a
// part of each cache line, and the next vector must find the line still in L1, beside those of other tensors.
template <typename T, typename Body>
inline void each_few_rows(const Rows<T>& rows, const Body& body) {
  const size_t bytes = rows.width * sizeof(T), few = bytes >= 2048 ? 4 : 8192 / bytes;
  for (size_t start = 0; start < rows.count; start += few) {
    body(start, start + few < rows.count ? start + few : rows.count);
  }
}

// One pass over values of 16 bits: sums of distances from the first row's value, and of their squares. It costs
// digits only where that value lies many deviations from the mean, and then some 1e-6, a thousandth of what the
// type itself rounds away.
template <typename T>
void row_moments_at_once(const Rows<const T>& x, Moments* per_channel) {
  each_vector(x.width, [&](const auto& lanes) {
    const Floats pivot = lanes.read(x, 0);
    Floats low = pivot, high = pivot;
    Doubles sum{}, squares{};
    for (size_t start = 0; start < x.count; start += kStretch) {
      const size_t end = start + kStretch < x.count ? start + kStretch : x.count;
      Floats s0{}, s1{}, q0{}, q1{};
      const auto take = [&](size_t row, Floats& s, Floats& q) {
        const Floats here = lanes.read(x, row), d = here - pivot;
        s += d;
        q += d * d;
        low = lower(here, low);
        high = higher(here, high);
      };
      size_t row = start;
      for (; row + 2 <= end; row += 2) {
        take(row, s0, q0);
        take(row + 1, s1, q1);
      }
      if (row < end) take(row, s0, q0);
      sum += widened(s0 + s1);
      squares += widened(q0 + q1);
    }
    const double count = static_cast<double>(x.count);
    const Doubles off = sum / count, mean = widened(pivot) + off, m2 = squares - sum * off;
    for (size_t i = 0; i < lanes.count; ++i) {
      per_channel[lanes.channel + i] = {count, mean[i], m2[i] < 0.0 ? 0.0 : m2[i], low[i], high[i]};
    }
  });
}

// As block_moments in blocked.h.
template <typename T>
void row_moments(const Rows<const T>& x, Moments* per_channel) {
  if constexpr (sizeof(T) == 2) return row_moments_at_once(x, per_channel);
  each_vector(x.width, [&](const auto& lanes) {
    const Floats pivot = lanes.read(x, 0);
    const double count = static_cast<double>(x.count);
    const Doubles sum = sum_rows(x.count, [&](size_t row) { return lanes.read(x, row) - pivot; });
    const Doubles mean = widened(pivot) + sum / count;
    const Floats centre = narrowed(mean);
    Floats low = centre, high = centre;
    const Doubles squares = sum_rows(x.count, [&](size_t row) {
      const Floats here = lanes.read(x, row);
      const Floats d = here - centre;
      low = lower(here, low);
      high = higher(here, high);
      return d * d;
    });
    const Doubles off = mean - widened(centre);
    const Doubles m2 = squares - count * off * off;
    for (size_t i = 0; i < lanes.count; ++i) {
      per_channel[lanes.channel + i] = {count, mean[i], m2[i] < 0.0 ? 0.0 : m2[i], low[i], high[i]};
    }
  });
}

template <typename T>
void row_sums(const Rows<const T>& x, double* per_channel) {
  each_vector(x.width, [&](const auto& lanes) {
    const Doubles sum = sum_rows(x.count, [&](size_t row) { return lanes.read(x, row); });
    for (size_t i = 0; i < lanes.count; ++i) per_channel[lanes.channel + i] = sum[i];
  });
}

// As branches in gate.h, but for the comparison, which is known when this is compiled: as a condition it stays
// in a mask register.
template <Gate kGate, bool kNormalised, Reach kReach, bool kAtLeast>
inline Branches decided(Floats x, const LaneGate& c, Floats logit) {
  if constexpr (kGate == kStatic) {
    return branches<kGate, kNormalised, kReach>(x, c, 0.0f, 0);
  } else {
    const Floats affine = c.slope * (x - c.centre) + c.offset;
    const Floats s = kNormalised ? c.weight * affine : affine;
    const Floats gated = kNormalised ? affine : x;
    const Floats r = kGate == kHard ? Floats{} : sigmoid<kReach>(s);
    const Floats w1 = (kAtLeast ? s >= logit : s > logit) ? all(1.0f) : r;
    if constexpr (kGate == kHard) {
      const Floats kept = w1 * gated;
      return {kept, gated - kept};
    } else if constexpr (kGate == kSoft) {
      return {w1 * gated, ((kAtLeast ? s >= logit : s > logit) ? Floats{} : r) * gated};
    } else {
      return {w1 * gated, ((kAtLeast ? s >= logit : s > logit) ? r : r * 0.0f) * gated};
    }
  }
}

template <typename T, Gate kGate, bool kNormalised, bool kWithin, Reach kReach, bool kAtLeast>
void row_gate(const Rows<const T>& x, const Rows<T>& y_a, const Rows<T>& y_b, const BlockGate& gate) {
  const Floats logit = all(gate.logit);
  const Rows<const T> partner{x.data + y_a.width, x.count, x.width};
  each_few_rows(x, [&](size_t start, size_t end) {
    each_vector(y_a.width, [&](const auto& lanes) {
      const LaneGate a = lanes_at<kGate, kNormalised>(gate.a, lanes.channel);
      const LaneGate b = lanes_at<kGate, kNormalised>(gate.b, lanes.channel);
      for (size_t row = start; row < end; ++row) {
        const Halves y = halves<kWithin>(
            decided<kGate, kNormalised, kReach, kAtLeast>(lanes.read(x, row), a, logit),
            decided<kGate, kNormalised, kReach, kAtLeast>(lanes.read(partner, row), b, logit));
        lanes.write(y_a, row, y.a);
        lanes.write(y_b, row, y.b);
      }
    });
  });
}

template <typename T, bool kRelu, bool kParts>
void row_combine(const Rows<const T>& y1, const T* y1_rest, const Rows<const T>& y2, const Rows<T>& out,
                 const float* weight1, const float* weight2, const float* shift) {
  const Rows<const T> rest{y1_rest, y1.count, y1.width};
  each_few_rows(y1, [&](size_t start, size_t end) {
    each_vector(y1.width, [&](const auto& lanes) {
      const Floats w1 = load(weight1 + lanes.channel), w2 = load(weight2 + lanes.channel);
      const Floats s = load(shift + lanes.channel);
      for (size_t row = start; row < end; ++row) {
        Floats first = lanes.read(y1, row);
        if constexpr (kParts) first += lanes.read(rest, row);
        lanes.write(out, row, active<kRelu>(w1 * first + w2 * lanes.read(y2, row) + s));
      }
    });
  });
}

}  // namespace
}  // namespace scconv
