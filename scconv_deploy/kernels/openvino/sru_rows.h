// The SRU over rows of channels, in stretches: moments, merged to groups, then the gate of any rows.
#pragma once

#include <cmath>
#include <vector>

#include "norm.h"
#include "rows.h"
#include "sru.h"
#include "tasks.h"

namespace scconv {
namespace {

// 64 KiB of floats: a task worth starting, whose rows stay in L2 between two passes.
constexpr size_t kStretchValues = 16384;

struct Stretches {
  size_t plane, rows, count;

  // Of one length and, so that two threads have the same to do, an even number.
  Stretches(size_t plane, size_t channels) : plane(plane) {
    const size_t most = kStretchValues / channels < 16 ? 16 : kStretchValues / channels;
    count = (plane + most - 1) / most;
    count += count % 2;
    rows = (plane + count - 1) / count;
    count = (plane + rows - 1) / rows;
  }
  size_t begin(size_t index) const { return index * rows; }
  size_t length(size_t index) const {
    return begin(index) + rows < plane ? rows : plane - begin(index);
  }
};

// One value per channel, with room for a whole vector behind the last.
struct ChannelArrays {
  std::vector<float> slope, centre, offset, weight, mask;

  explicit ChannelArrays(size_t count) {
    for (auto* array : {&slope, &centre, &offset, &weight, &mask}) array->resize(count + kLanes);
  }
  void set(size_t at, const ChannelGate& gate) {
    slope[at] = gate.slope;
    centre[at] = gate.centre;
    offset[at] = gate.offset;
    weight[at] = gate.weight;
    mask[at] = gate.mask;
  }
  BlockGate::Channels from(size_t at) const {
    return {slope.data() + at, centre.data() + at, offset.data() + at, weight.data() + at, mask.data() + at};
  }
};

template <typename T>
using RowGate = void (*)(const Rows<const T>&, const Rows<T>&, const Rows<T>&, const BlockGate&);

template <typename T, Gate kGate, bool kNormalised, bool kWithin, bool kAtLeast>
RowGate<T> by_reach(Reach reach) {
  // A hard gate takes no sigmoid.
  if (kGate == kHard || reach == kAnywhere) return row_gate<T, kGate, kNormalised, kWithin, kAnywhere, kAtLeast>;
  if constexpr (kGate != kHard) {
    if (reach == kNarrow) return row_gate<T, kGate, kNormalised, kWithin, kNarrow, kAtLeast>;
    return row_gate<T, kGate, kNormalised, kWithin, kWide, kAtLeast>;
  }
}

template <typename T, Gate kGate, bool kAtLeast>
RowGate<T> by_branches(const SruForm& form, Reach reach) {
  if (form.normalised) {
    return form.within ? by_reach<T, kGate, true, true, kAtLeast>(reach)
                       : by_reach<T, kGate, true, false, kAtLeast>(reach);
  }
  return form.within ? by_reach<T, kGate, false, true, kAtLeast>(reach)
                     : by_reach<T, kGate, false, false, kAtLeast>(reach);
}

template <typename T, Gate kGate>
RowGate<T> by_form(const SruForm& form, Reach reach) {
  // A static mask was compared when it was stored.
  if constexpr (kGate == kStatic) return by_branches<T, kGate, false>(form, reach);
  return form.at_least ? by_branches<T, kGate, true>(form, reach) : by_branches<T, kGate, false>(form, reach);
}

template <typename T>
RowGate<T> gate_of(const SruForm& form, Reach reach) {
  switch (form.gate) {
    case kHard: return by_form<T, kHard>(form, reach);
    case kSoft: return by_form<T, kSoft>(form, reach);
    case kComplementSoft: return by_form<T, kComplementSoft>(form, reach);
    default: return by_form<T, kStatic>(form, reach);
  }
}

template <typename T>
class SruRows {
 public:
  explicit SruRows(const Sru& sru)
      : sru_(sru),
        half_(sru.channels / 2),
        whole_channels_(sru.channels % sru.groups == 0),
        stretches_(sru.plane, sru.channels),
        moments_(sru.batch * stretches_.count * (whole_channels_ ? sru.channels : 0)),
        norms_(sru.batch * sru.groups),
        arrays_(whole_channels_ ? sru.batch * sru.channels : 0),
        reaches_(sru.batch, kNarrow) {}

  size_t stretches() const { return stretches_.count; }

  void run(const Parallel& parallel) {
    const size_t values = sru_.batch * sru_.channels * sru_.plane, count = stretches_.count;
    if (sru_.batch >= kSamplesApart) {
      in_tasks(parallel, sru_.batch, values, [&](size_t sample) {
        for (size_t i = 0; i < count; ++i) measure(sample, i);
        normalise(sample);
        for (size_t i = 0; i < count; ++i) gate_stretch(sample, i);
      });
      return;
    }
    in_tasks(parallel, sru_.batch * count, values, [&](size_t i) { measure(i / count, i % count); });
    for (size_t sample = 0; sample < sru_.batch; ++sample) normalise(sample);
    in_tasks(parallel, sru_.batch * count, values, [&](size_t i) { gate_stretch(i / count, i % count); });
  }

  void measure(size_t sample, size_t stretch) {
    if (whole_channels_) row_moments(input(sample, stretch), moments(sample, stretch));
  }

  void normalise(size_t sample) {
    const size_t per_group = sru_.channels / sru_.groups;
    for (size_t group = 0; group < sru_.groups; ++group) {
      const Moments whole = whole_channels_ ? of_channels(sample, group) : of_flat(sample, group);
      const GroupNorm norm = norm_of(sru_, whole);
      norms_[sample * sru_.groups + group] = norm;
      if (whole_channels_) tell(norm, sample, group * per_group, per_group);
    }
  }

  // `count` rows of a sample from `first` on, into tensors of their own.
  void gate(size_t sample, size_t first, size_t count, T* to_a, T* to_b) const {
    const T* from = static_cast<const T*>(sru_.x) + (sample * sru_.plane + first) * sru_.channels;
    const Rows<const T> x{from, count, sru_.channels};
    const Rows<T> y_a{to_a, count, half_}, y_b{to_b, count, half_};
    if (whole_channels_) {
      gate_of<T>(sru_.form, reaches_[sample])(x, y_a, y_b, told(arrays_, sample * sru_.channels));
      return;
    }
    const size_t length = sru_.channels * sru_.plane / sru_.groups;
    ChannelArrays own(sru_.channels);
    for (size_t row = 0; row < count; ++row) {
      Reach reach = kNarrow;
      for (size_t c = 0; c < sru_.channels; ++c) {
        const size_t group = (c * sru_.plane + first + row) / length;
        own.set(c, channel_gate(sru_, norms_[sample * sru_.groups + group], c, reach));
      }
      gate_of<T>(sru_.form, reach)({x.at(row, 0), 1, x.width}, {y_a.at(row, 0), 1, half_},
                                   {y_b.at(row, 0), 1, half_}, told(own, 0));
    }
  }

 private:
  Rows<const T> input(size_t sample, size_t stretch) const {
    const T* x = static_cast<const T*>(sru_.x) + sample * sru_.plane * sru_.channels;
    return {x + stretches_.begin(stretch) * sru_.channels, stretches_.length(stretch), sru_.channels};
  }

  Moments* moments(size_t sample, size_t stretch) {
    return moments_.data() + (sample * stretches_.count + stretch) * sru_.channels;
  }

  void gate_stretch(size_t sample, size_t stretch) const {
    const size_t first = stretches_.begin(stretch), at = (sample * sru_.plane + first) * half_;
    gate(sample, first, stretches_.length(stretch), static_cast<T*>(sru_.y_a) + at, static_cast<T*>(sru_.y_b) + at);
  }

  // As channel_gate in norm.h for `count` channels of a group from `first` on. In floats but for the slope, and the
  // largest |s| of all of them at once: one channel at a time takes longer than the gate itself in small layers.
  void tell(const GroupNorm& norm, size_t sample, size_t first, size_t count) {
    const size_t at = sample * sru_.channels + first;
    const float centre = static_cast<float>(norm.mean);
    const double rest = norm.mean - centre;
    const double above = norm.high - norm.mean, below = norm.mean - norm.low;
    const float farthest = static_cast<float>(above > below ? above : below);
    for (size_t c = 0; c < count; ++c) {
      const double slope = sru_.scale[first + c] * norm.inverse;
      arrays_.slope[at + c] = static_cast<float>(slope);
      arrays_.centre[at + c] = centre;
      arrays_.offset[at + c] = static_cast<float>(sru_.shift[first + c] - slope * rest);
    }
    for (size_t c = 0; c < count; ++c) arrays_.weight[at + c] = sru_.form.normalised ? sru_.weight[first + c] : 1.0f;
    for (size_t c = 0; sru_.form.gate == kStatic && c < count; ++c) arrays_.mask[at + c] = sru_.mask[first + c];
    size_t too_wide_for[] = {0, 0};
    for (size_t c = 0; c < count; ++c) {
      // The factor covers the rounding of this line itself. A NaN is in reach of nothing.
      const float s = std::fabs(arrays_.weight[at + c]) *
                      (std::fabs(arrays_.slope[at + c]) * farthest + std::fabs(sru_.shift[first + c])) * 1.00001f;
      too_wide_for[kNarrow] += s <= kNarrowReach ? 0 : 1;
      too_wide_for[kWide] += s <= kWideReach ? 0 : 1;
    }
    const Reach own = too_wide_for[kNarrow] == 0 ? kNarrow : too_wide_for[kWide] == 0 ? kWide : kAnywhere;
    reaches_[sample] = own > reaches_[sample] ? own : reaches_[sample];
  }

  Moments of_channels(size_t sample, size_t group) {
    const size_t per_group = sru_.channels / sru_.groups, first = group * per_group;
    // The mean first: merging pair by pair would divide every time. Four sums at a time do not wait for each other.
    double sums[4] = {}, squares[4] = {};
    for (size_t i = 0; i < stretches_.count; ++i) {
      const Moments* m = moments(sample, i) + first;
      for (size_t c = 0; c < per_group; ++c) sums[c % 4] += m[c].count * m[c].mean;
    }
    const double count = static_cast<double>(per_group * sru_.plane);
    const double mean = ((sums[0] + sums[1]) + (sums[2] + sums[3])) / count;
    float low = moments(sample, 0)[first].low, high = moments(sample, 0)[first].high;
    for (size_t i = 0; i < stretches_.count; ++i) {
      const Moments* m = moments(sample, i) + first;
      for (size_t c = 0; c < per_group; ++c) {
        const double d = m[c].mean - mean;
        squares[c % 4] += m[c].m2 + m[c].count * d * d;
        low = m[c].low < low ? m[c].low : low;
        high = m[c].high > high ? m[c].high : high;
      }
    }
    return {count, mean, (squares[0] + squares[1]) + (squares[2] + squares[3]), low, high};
  }

  float value(size_t sample, size_t flat) const {
    const size_t channel = flat / sru_.plane, row = flat % sru_.plane;
    const T* x = static_cast<const T*>(sru_.x) + sample * sru_.plane * sru_.channels;
    return load_some(x + row * sru_.channels + channel, 1)[0];
  }

  // Groups are cut from the flat (C, plane) values, so one may begin inside a channel.
  Moments of_flat(size_t sample, size_t group) const {
    const size_t length = sru_.channels * sru_.plane / sru_.groups, first = group * length;
    Moments whole{static_cast<double>(length), 0.0, 0.0, value(sample, first), value(sample, first)};
    for (size_t i = first; i < first + length; ++i) {
      const float x = value(sample, i);
      whole.mean += x;
      whole.low = x < whole.low ? x : whole.low;
      whole.high = x > whole.high ? x : whole.high;
    }
    whole.mean /= whole.count;
    for (size_t i = first; i < first + length; ++i) {
      const double d = value(sample, i) - whole.mean;
      whole.m2 += d * d;
    }
    return whole;
  }

  BlockGate told(const ChannelArrays& arrays, size_t at) const {
    return {arrays.from(at), arrays.from(at + half_), sru_.logit, sru_.form.at_least ? -1 : 0};
  }

  const Sru& sru_;
  size_t half_;
  bool whole_channels_;
  Stretches stretches_;
  std::vector<Moments> moments_;
  std::vector<GroupNorm> norms_;
  ChannelArrays arrays_;
  std::vector<Reach> reaches_;
};

}  // namespace
}  // namespace scconv
