// Moments -> what the gate of each channel is told: once per norm group and channel, in double.
#pragma once

#include <cmath>

#include "sru.h"

namespace scconv {

struct GroupNorm {
  double mean;
  double inverse;  // 1 / sigma
  float low;
  float high;
};

inline Moments merged(const Moments& one, const Moments& other) {
  const double count = one.count + other.count, delta = other.mean - one.mean;
  return {count, one.mean + delta * (other.count / count),
          one.m2 + other.m2 + delta * delta * (one.count * other.count / count),
          one.low < other.low ? one.low : other.low, one.high > other.high ? one.high : other.high};
}

inline GroupNorm norm_of(const Sru& sru, const Moments& whole) {
  const double sigma = sru.form.standard_deviation ? std::sqrt(whole.m2 / (whole.count - 1.0)) + sru.epsilon
                                                   : std::sqrt(whole.m2 / whole.count + sru.epsilon);
  return {whole.mean, 1.0 / sigma, whole.low, whole.high};
}

// Also widens `reach` to what |s| of this channel needs. The group's largest and smallest value bound it; a
// NaN anywhere makes both comparisons false.
inline ChannelGate channel_gate(const Sru& sru, const GroupNorm& norm, size_t channel, Reach& reach) {
  ChannelGate gate;
  const double slope = sru.scale[channel] * norm.inverse;
  gate.slope = static_cast<float>(slope);
  gate.centre = static_cast<float>(norm.mean);
  // What rounding took from the mean goes into the shift: it is 0 where the mean is a float.
  gate.offset = static_cast<float>(sru.shift[channel] - slope * (norm.mean - gate.centre));
  gate.weight = sru.form.normalised ? sru.weight[channel] : 1.0f;
  gate.mask = sru.form.gate == kStatic ? sru.mask[channel] : 0.0f;
  const double above = norm.high - norm.mean, below = norm.mean - norm.low;
  const double farthest = above > below ? above : below;
  const double largest = std::fabs(static_cast<double>(gate.weight)) *
                         (std::fabs(slope) * farthest + std::fabs(static_cast<double>(sru.shift[channel])));
  const Reach own = largest <= kNarrowReach ? kNarrow : largest <= kWideReach ? kWide : kAnywhere;
  reach = own > reach ? own : reach;
  return gate;
}

}  // namespace scconv
