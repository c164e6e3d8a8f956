// SRU in the blocked layout: moments, then one gate per channel and sample, then the gate over stretches of
// rows of a block and its partner. Fixed pieces in a fixed order: results do not depend on the threads.
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

class Computation {
 public:
  Computation(const Sru& sru, const Kernels& kernels)
      : sru_(sru),
        kernels_(kernels),
        blocked_(*kernels.blocked(sru.block)),
        sample_(sru.channels * sru.plane),
        group_(sample_ / sru.groups),
        is_contiguous_(sru.channels / sru.groups % sru.block == 0),
        stretches_(pieces_of(sru.plane, kRows)),
        units_(is_contiguous_ ? sru.groups : sru.channels / sru.block),
        pieces_per_unit_(is_contiguous_ ? pieces_of(group_, kPiece) : stretches_),
        // Without whole blocks in a group, every piece has moments per channel.
        moments_per_piece_(is_contiguous_ ? 1 : sru.block),
        moments_(scratch<Moments>(sru.batch * pieces_per_sample() * moments_per_piece_)),
        gates_(scratch<float>(3 * sru.batch * sru.channels)),
        reaches_(scratch<Reach>(sru.batch * sru.channels)) {}

  size_t pieces_per_sample() const { return units_ * pieces_per_unit_; }
  size_t stretches_per_sample() const { return sru_.channels / sru_.block / 2 * stretches_; }

  // Piece `index` of the whole batch.
  void measure(size_t index) const {
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

  // The gates of all channels of a sample.
  void normalise(size_t sample) const {
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

  // A stretch of rows of one block, with its partner.
  void gate(size_t index) const {
    const size_t blocks = sru_.channels / sru_.block / 2, half = sru_.channels / 2;
    const size_t sample = index / (blocks * stretches_), block = index / stretches_ % blocks;
    const size_t row = index % stretches_ * kRows, left = sru_.plane - row;
    const size_t channel = block * sru_.block;
    const size_t from = (block * sru_.plane + row) * sru_.block;
    const float* x = floats(sru_.x) + sample * sample_ + from;
    const size_t to = sample * sample_ / 2 + from;
    const Reach* reaches = reaches_ + sample * sru_.channels + channel;
    Reach reach = kNarrow;
    for (size_t lane = 0; lane < sru_.block; ++lane) {
      reach = reaches[lane] > reach ? reaches[lane] : reach;
      reach = reaches[half + lane] > reach ? reaches[half + lane] : reach;
    }
    const BlockGate gate{channels(sample, channel), channels(sample, channel + half), sru_.logit,
                         sru_.form.at_least ? -1 : 0};
    blocked_.gate[sru_.form.gate][sru_.form.normalised][sru_.form.within][reach](
        x, x + half * sru_.plane, static_cast<float*>(sru_.y_a) + to, static_cast<float*>(sru_.y_b) + to,
        left < kRows ? left : kRows, gate);
  }

 private:
  Moments whole(size_t sample, size_t group) const {
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

  BlockGate::Channels channels(size_t sample, size_t channel) const {
    const float* slope = gates_ + 3 * sample * sru_.channels + channel;
    return {slope, slope + sru_.channels, slope + 2 * sru_.channels,
            sru_.form.normalised ? sru_.weight + channel : nullptr,
            sru_.form.gate == kStatic ? sru_.mask + channel : nullptr};
  }

  static const float* floats(const void* data) { return static_cast<const float*>(data); }

  const Sru& sru_;
  const Kernels& kernels_;
  const BlockedKernels& blocked_;
  size_t sample_, group_;
  bool is_contiguous_;
  size_t stretches_, units_, pieces_per_unit_, moments_per_piece_;
  Moments* moments_;
  float* gates_;  // per sample: slopes, centres and offsets of all channels
  Reach* reaches_;
};

}  // namespace

void compute_blocked(const Sru& sru, const Kernels& kernels, const Parallel& parallel) {
  const Computation work(sru, kernels);
  const size_t pieces = work.pieces_per_sample(), stretches = work.stretches_per_sample();
  const size_t values = sru.batch * sru.channels * sru.plane;
  if (sru.batch >= kSamplesApart) {
    in_tasks(parallel, sru.batch, values, [&](size_t sample) {
      for (size_t i = 0; i < pieces; ++i) work.measure(sample * pieces + i);
      work.normalise(sample);
      for (size_t i = 0; i < stretches; ++i) work.gate(sample * stretches + i);
    });
    return;
  }
  in_tasks(parallel, sru.batch * pieces, values, [&](size_t i) { work.measure(i); });
  for (size_t sample = 0; sample < sru.batch; ++sample) work.normalise(sample);
  in_tasks(parallel, sru.batch * stretches, values, [&](size_t i) { work.gate(i); });
}

}  // namespace scconv
