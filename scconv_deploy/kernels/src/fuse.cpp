// Two phases with the softmax between them: means of every channel of y1 and y2; then the weighted sum.
#include "fuse.h"

#include "scratch.h"
#include "tasks.h"

namespace scconv {
namespace {

class Computation {
 public:
  Computation(const Fuse& fuse, const Kernels& kernels)
      : fuse_(fuse),
        kernels_(kernels),
        item_(size_of(fuse.type)),
        means_(scratch<double>(2 * fuse.batch * fuse.channels)),
        weights_(scratch<float>(2 * fuse.batch * fuse.channels)) {}

  // Per sample: C means of y1, then C of y2; `index` counts them through the batch.
  void pool(size_t index) const {
    const size_t channels = fuse_.channels, sample = index / (2 * channels), within = index % (2 * channels);
    const void* y = within < channels ? fuse_.y1 : fuse_.y2;
    const size_t plane = sample * channels + within % channels;
    const double total = kernels_.sum[fuse_.type](at(y, plane), fuse_.plane);
    means_[index] = total / static_cast<double>(fuse_.plane);
  }

  void weigh(size_t sample) const {
    const auto softmax = fuse_.form.pair ? kernels_.pair : kernels_.joint;
    const size_t start = 2 * sample * fuse_.channels;
    softmax(means_ + start, weights_ + start, fuse_.channels);
  }

  // Channel `index % C` of sample `index / C`.
  void combine(size_t index) const {
    const size_t sample = index / fuse_.channels, channel = index % fuse_.channels;
    const float* weights = weights_ + 2 * sample * fuse_.channels + channel;
    const float scale = fuse_.form.affine ? fuse_.scale[channel] : 1.0f;
    const float shift = fuse_.form.affine ? fuse_.shift[channel] : 0.0f;
    void* out = static_cast<char*>(fuse_.out) + index * fuse_.plane * item_;
    const void* added = fuse_.form.added ? at(fuse_.added, index) : nullptr;
    kernels_.combine[fuse_.type][fuse_.form.added][fuse_.form.relu](
        at(fuse_.y1, index), at(fuse_.y2, index), added, out, fuse_.plane, weights[0] * scale,
        weights[fuse_.channels] * scale, shift);
  }

 private:
  const void* at(const void* y, size_t plane) const {
    return static_cast<const char*>(y) + plane * fuse_.plane * item_;
  }

  const Fuse& fuse_;
  const Kernels& kernels_;
  size_t item_;
  double* means_;
  float* weights_;
};

}  // namespace

void compute(const Fuse& fuse, const Kernels& kernels, const Parallel& parallel) {
  if (fuse.batch == 0 || fuse.plane == 0 || fuse.channels == 0) return;
  if (fuse.block != 0) return compute_blocked(fuse, kernels, parallel);
  const Computation work(fuse, kernels);
  const size_t channels = fuse.channels, values = 2 * fuse.batch * channels * fuse.plane;
  if (fuse.batch >= kSamplesApart) {
    in_tasks(parallel, fuse.batch, values, [&](size_t sample) {
      for (size_t i = 0; i < 2 * channels; ++i) work.pool(2 * sample * channels + i);
      work.weigh(sample);
      for (size_t i = 0; i < channels; ++i) work.combine(sample * channels + i);
    });
    return;
  }
  in_tasks(parallel, 2 * fuse.batch * channels, values, [&](size_t i) { work.pool(i); });
  for (size_t sample = 0; sample < fuse.batch; ++sample) work.weigh(sample);
  in_tasks(parallel, fuse.batch * channels, values, [&](size_t i) { work.combine(i); });
}

}  // namespace scconv
