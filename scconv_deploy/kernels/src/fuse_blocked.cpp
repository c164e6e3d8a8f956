// CRU's fuse in the blocked layout: sums per channel, the softmax, the weighted sum, by stretches of rows.
#include "fuse.h"
#include "scratch.h"
#include "tasks.h"

namespace scconv {
namespace {

// Rows of a block summed, or mixed, in one go.
constexpr size_t kRows = 512;

class Computation {
 public:
  Computation(const Fuse& fuse, const Kernels& kernels)
      : fuse_(fuse),
        kernels_(kernels),
        blocked_(*kernels.blocked(fuse.block)),
        blocks_(fuse.channels / fuse.block),
        stretches_((fuse.plane + kRows - 1) / kRows),
        means_(scratch<double>(2 * fuse.batch * fuse.channels * (1 + stretches_))),
        sums_(means_ + 2 * fuse.batch * fuse.channels),
        weights_(scratch<float>(3 * fuse.batch * fuse.channels)) {}

  size_t stretches_per_sample() const { return blocks_ * stretches_; }

  // Per sample: the stretches of y1's blocks, then those of y2's; `index` counts them through the batch.
  void pool(size_t index) const {
    const size_t per_sample = 2 * stretches_per_sample();
    const size_t sample = index / per_sample, within = index % per_sample;
    const void* y = within < stretches_per_sample() ? fuse_.y1 : fuse_.y2;
    const size_t stretch = sample * stretches_per_sample() + within % stretches_per_sample();
    blocked_.sums(floats(y) + offset(stretch), rows(stretch), sums_ + index * fuse_.block);
  }

  // Means, weights and the folded BatchNorm of a sample.
  void weigh(size_t sample) const {
    const size_t channels = fuse_.channels;
    double* means = means_ + 2 * sample * channels;
    for (size_t channel = 0; channel < 2 * channels; ++channel) {
      const size_t block = channel / fuse_.block, lane = channel % fuse_.block;
      const double* first = sums_ + ((2 * sample * blocks_ + block) * stretches_) * fuse_.block + lane;
      double total = 0.0;
      for (size_t i = 0; i < stretches_; ++i) total += first[i * fuse_.block];
      means[channel] = total / static_cast<double>(fuse_.plane);
    }
    float* weights = weights_ + 3 * sample * channels;
    (fuse_.form.pair ? kernels_.pair : kernels_.joint)(means, weights, channels);
    for (size_t channel = 0; channel < channels; ++channel) {
      const float scale = fuse_.form.affine ? fuse_.scale[channel] : 1.0f;
      weights[channel] *= scale;
      weights[channels + channel] *= scale;
      weights[2 * channels + channel] = fuse_.form.affine ? fuse_.shift[channel] : 0.0f;
    }
  }

  void combine(size_t stretch) const {
    const size_t sample = stretch / stretches_per_sample(), channels = fuse_.channels;
    const size_t block = stretch / stretches_ % blocks_, from = offset(stretch);
    const float* weights = weights_ + 3 * sample * channels + block * fuse_.block;
    const float* added = fuse_.form.added ? floats(fuse_.added) + from : nullptr;
    blocked_.combine[fuse_.form.added][fuse_.form.relu](
        floats(fuse_.y1) + from, floats(fuse_.y2) + from, added, static_cast<float*>(fuse_.out) + from,
        rows(stretch), weights, weights + channels, weights + 2 * channels);
  }

 private:
  // Where stretch `index` of a tensor begins.
  size_t offset(size_t index) const {
    return (index / stretches_ * fuse_.plane + index % stretches_ * kRows) * fuse_.block;
  }

  size_t rows(size_t index) const {
    const size_t left = fuse_.plane - index % stretches_ * kRows;
    return left < kRows ? left : kRows;
  }

  static const float* floats(const void* data) { return static_cast<const float*>(data); }

  const Fuse& fuse_;
  const Kernels& kernels_;
  const BlockedKernels& blocked_;
  size_t blocks_, stretches_;
  double* means_;
  double* sums_;    // per stretch and channel, as pool() counts them
  float* weights_;  // per sample: weights of y1, of y2, and shifts
};

}  // namespace

void compute_blocked(const Fuse& fuse, const Kernels& kernels, const Parallel& parallel) {
  const Computation work(fuse, kernels);
  const size_t stretches = work.stretches_per_sample();
  const size_t values = 2 * fuse.batch * fuse.channels * fuse.plane;
  if (fuse.batch >= kSamplesApart) {
    in_tasks(parallel, fuse.batch, values, [&](size_t sample) {
      for (size_t i = 0; i < 2 * stretches; ++i) work.pool(2 * sample * stretches + i);
      work.weigh(sample);
      for (size_t i = 0; i < stretches; ++i) work.combine(sample * stretches + i);
    });
    return;
  }
  in_tasks(parallel, 2 * fuse.batch * stretches, values, [&](size_t i) { work.pool(i); });
  for (size_t sample = 0; sample < fuse.batch; ++sample) work.weigh(sample);
  in_tasks(parallel, fuse.batch * stretches, values, [&](size_t i) { work.combine(i); });
}

}  // namespace scconv
