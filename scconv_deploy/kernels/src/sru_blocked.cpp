// SRU in the blocked layout: moments, then one gate per channel and sample, then the gate over stretches of
// rows of a block and its partner.
#include "sru_blocked.h"

#include "norm.h"
#include "scratch.h"
#include "tasks.h"

namespace scconv {
namespace {

// A norm group of whole blocks is contiguous, and measured in pieces as in sru.cpp.
constexpr size_t kPiece = 16384;
// Rows of a block measured, or gated, in one go.
constexpr size_t kRows = 512;

size_t pieces_of(size_t whole, size_t piece) { return (whole + piece - 1) / piece; }

const float* floats(const void* data) { return static_cast<const float*>(data); }

}  // namespace

BlockedGates::BlockedGates(const Sru& sru, const Kernels& kernels)
    : sru_(sru),
      kernels_(kernels),
      blocked_(*kernels.blocked(sru.block)),
      sample_(sru.channels * sru.plane),
      group_(sample_ / sru.groups),
      is_contiguous_(sru.channels / sru.groups % sru.block == 0),
      units_(is_contiguous_ ? sru.groups : sru.channels / sru.block),
      pieces_per_unit_(is_contiguous_ ? pieces_of(group_, kPiece) : pieces_of(sru.plane, kRows)),
      // Without whole blocks in a group, every piece has moments per channel.
      moments_per_piece_(is_contiguous_ ? 1 : sru.block),
      moments_(scratch<Moments>(sru.batch * pieces_per_sample() * moments_per_piece_)),
      gates_(scratch<float>(3 * sru.batch * sru.channels)),
      reaches_(scratch<Reach>(sru.batch * sru.channels)) {}

void BlockedGates::measure(size_t index) const {
  const size_t unit = index / pieces_per_unit_, piece = index % pieces_per_unit_;
  if (is_contiguous_) {
    const size_t start = piece * kPiece, left = group_ - start;
    const float* from = floats(sru_.x) + unit * group_ + start;
    moments_[index] = kernels_.moments[kFloat](from, left < kPiece ? left : kPiece);
  } else {
    const size_t start = piece * kRows, left = sru_.plane - start;
    const float* from = floats(sru_.x) + (unit * sru_.plane + start) * sru_.block;
    blocked_.moments(from, left < kRows ? left : kRows, moments_ + index * sru_.block);
  }
}

void BlockedGates::normalise(size_t sample) const {
  const size_t per_group = sru_.channels / sru_.groups;
  float* slope = gates_ + 3 * sample * sru_.channels;
  for (size_t group = 0; group < sru_.groups; ++group) {
    const GroupNorm norm = norm_of(sru_, whole(sample, group));
    for (size_t i = 0; i < per_group; ++i) {
      const size_t channel = group * per_group + i;
      Reach reach = kNarrow;
      const ChannelGate gate = channel_gate(sru_, norm, channel, reach);
      slope[channel] = gate.slope;
      slope[sru_.channels + channel] = gate.centre;
      slope[2 * sru_.channels + channel] = gate.offset;
      reaches_[sample * sru_.channels + channel] = reach;
    }
  }
}

void BlockedGates::gate(size_t sample, size_t channel, size_t first_row, size_t rows, float* y_a,
                        float* y_b) const {
  const size_t half = sru_.channels / 2;
  const float* x = floats(sru_.x) + sample * sample_ + channel * sru_.plane + first_row * sru_.block;
  const Reach* reaches = reaches_ + sample * sru_.channels + channel;
  Reach reach = kNarrow;
  for (size_t lane = 0; lane < sru_.block; ++lane) {
    reach = reaches[lane] > reach ? reaches[lane] : reach;
    reach = reaches[half + lane] > reach ? reaches[half + lane] : reach;
  }
  const BlockGate gate{channels(sample, channel), channels(sample, channel + half), sru_.logit,
                       sru_.form.at_least ? -1 : 0};
  blocked_.gate[sru_.form.gate][sru_.form.normalised][sru_.form.within][reach](x, x + half * sru_.plane, y_a,
                                                                               y_b, rows, gate);
}

Moments BlockedGates::whole(size_t sample, size_t group) const {
  const size_t per_group = sru_.channels / sru_.groups;
  const Moments* sample_moments = moments_ + sample * pieces_per_sample() * moments_per_piece_;
  Moments all{};
  const auto take = [&all](const Moments& part) { all = all.count == 0.0 ? part : merged(all, part); };
  if (is_contiguous_) {
    for (size_t i = 0; i < pieces_per_unit_; ++i) take(sample_moments[group * pieces_per_unit_ + i]);
    return all;
  }
  for (size_t channel = group * per_group; channel < (group + 1) * per_group; ++channel) {
    const size_t block = channel / sru_.block, lane = channel % sru_.block;
    for (size_t i = 0; i < pieces_per_unit_; ++i) {
      take(sample_moments[(block * pieces_per_unit_ + i) * sru_.block + lane]);
    }
  }
  return all;
}

BlockGate::Channels BlockedGates::channels(size_t sample, size_t channel) const {
  const float* slope = gates_ + 3 * sample * sru_.channels + channel;
  return {slope, slope + sru_.channels, slope + 2 * sru_.channels,
          sru_.form.normalised ? sru_.weight + channel : nullptr,
          sru_.form.gate == kStatic ? sru_.mask + channel : nullptr};
}

void compute_blocked(const Sru& sru, const Kernels& kernels, const Parallel& parallel) {
  const BlockedGates gates(sru, kernels);
  const size_t blocks = sru.channels / sru.block / 2, stretches = pieces_of(sru.plane, kRows);
  // A stretch of rows of one block, with its partner; `index` counts them through the batch.
  const auto gate = [&](size_t index) {
    const size_t sample = index / (blocks * stretches), block = index / stretches % blocks;
    const size_t row = index % stretches * kRows, left = sru.plane - row;
    const size_t to = ((sample * blocks + block) * sru.plane + row) * sru.block;
    gates.gate(sample, block * sru.block, row, left < kRows ? left : kRows, static_cast<float*>(sru.y_a) + to,
               static_cast<float*>(sru.y_b) + to);
  };
  const size_t pieces = gates.pieces_per_sample(), per_sample = blocks * stretches;
  const size_t values = sru.batch * sru.channels * sru.plane;
  if (sru.batch >= kSamplesApart) {
    in_tasks(parallel, sru.batch, values, [&](size_t sample) {
      for (size_t i = 0; i < pieces; ++i) gates.measure(sample * pieces + i);
      gates.normalise(sample);
      for (size_t i = 0; i < per_sample; ++i) gate(sample * per_sample + i);
    });
    return;
  }
  in_tasks(parallel, sru.batch * pieces, values, [&](size_t i) { gates.measure(i); });
  for (size_t sample = 0; sample < sru.batch; ++sample) gates.normalise(sample);
  in_tasks(parallel, sru.batch * per_sample, values, gate);
}

}  // namespace scconv
