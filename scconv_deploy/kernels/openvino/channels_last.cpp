// Two phases as in ../src/sru.cpp and ../src/fuse.cpp, over stretches of rows of fixed size, merged in a fixed
// order: the result does not depend on the number of threads.
#include "channels_last.h"

#include "sru_rows.h"

namespace scconv {
namespace {

template <typename T>
class Steps final : public SruSteps {
 public:
  explicit Steps(const Sru& sru) : rows_(sru) {}
  size_t stretches() const override { return rows_.stretches(); }
  void measure(size_t stretch) override { rows_.measure(0, stretch); }
  void normalise() override { rows_.normalise(0); }
  void gate(size_t first, size_t count, void* y_a, void* y_b) const override {
    rows_.gate(0, first, count, static_cast<T*>(y_a), static_cast<T*>(y_b));
  }

 private:
  SruRows<T> rows_;
};

template <typename T>
class FuseRows {
 public:
  FuseRows(const Fuse& fuse, const void* y1_rest)
      : fuse_(fuse),
        given_{fuse.y1, fuse.y2, y1_rest},
        tensors_(y1_rest == nullptr ? 2 : 3),
        stretches_(fuse.plane, fuse.channels),
        sums_(tensors_ * fuse.batch * stretches_.count * fuse.channels),
        weights_(2 * fuse.batch * fuse.channels + kLanes),
        shift_(fuse.channels + kLanes, 0.0f) {
    for (size_t c = 0; fuse.form.affine && c < fuse.channels; ++c) shift_[c] = fuse.shift[c];
  }

  void run(const Parallel& parallel) {
    const size_t count = stretches_.count, pools = tensors_ * count;
    const size_t values = tensors_ * fuse_.batch * fuse_.channels * fuse_.plane;
    if (fuse_.batch >= kSamplesApart) {
      in_tasks(parallel, fuse_.batch, values, [&](size_t sample) {
        for (size_t i = 0; i < pools; ++i) pool(sample, i);
        weigh(sample);
        for (size_t i = 0; i < count; ++i) combine(sample, i);
      });
      return;
    }
    in_tasks(parallel, fuse_.batch * pools, values, [&](size_t i) { pool(i / pools, i % pools); });
    for (size_t sample = 0; sample < fuse_.batch; ++sample) weigh(sample);
    in_tasks(parallel, fuse_.batch * count, values, [&](size_t i) { combine(i / count, i % count); });
  }

 private:
  Rows<const T> input(const void* y, size_t sample, size_t stretch) const {
    const size_t row = sample * fuse_.plane + stretches_.begin(stretch);
    return {static_cast<const T*>(y) + row * fuse_.channels, stretches_.length(stretch), fuse_.channels};
  }

  // Sums of y1's stretches, then of y2's, then of y1's rest.
  double* sums(size_t sample, size_t index) {
    return sums_.data() + (sample * tensors_ * stretches_.count + index) * fuse_.channels;
  }

  void pool(size_t sample, size_t index) {
    const void* y = given_[index / stretches_.count];
    row_sums(input(y, sample, index % stretches_.count), sums(sample, index));
  }

  void weigh(size_t sample) {
    const size_t channels = fuse_.channels;
    std::vector<double> means(2 * channels, 0.0);
    for (size_t index = 0; index < tensors_ * stretches_.count; ++index) {
      double* into = means.data() + (index / stretches_.count == 1 ? channels : 0);
      for (size_t c = 0; c < channels; ++c) into[c] += sums(sample, index)[c];
    }
    for (double& mean : means) mean /= static_cast<double>(fuse_.plane);
    float* weights = weights_.data() + 2 * sample * channels;
    (fuse_.form.pair ? pair_weights : joint_weights)(means.data(), weights, channels);
    for (size_t c = 0; fuse_.form.affine && c < channels; ++c) {
      weights[c] *= fuse_.scale[c];
      weights[channels + c] *= fuse_.scale[c];
    }
  }

  void combine(size_t sample, size_t stretch) {
    const size_t row = sample * fuse_.plane + stretches_.begin(stretch);
    const Rows<T> out{static_cast<T*>(fuse_.out) + row * fuse_.channels, stretches_.length(stretch),
                      fuse_.channels};
    const float* weights = weights_.data() + 2 * sample * fuse_.channels;
    const bool parts = tensors_ == 3;
    const auto loop = fuse_.form.relu ? (parts ? row_combine<T, true, true> : row_combine<T, true, false>)
                                      : (parts ? row_combine<T, false, true> : row_combine<T, false, false>);
    const T* rest = parts ? input(given_[2], sample, stretch).data : nullptr;
    loop(input(fuse_.y1, sample, stretch), rest, input(fuse_.y2, sample, stretch), out, weights,
         weights + fuse_.channels, shift_.data());
  }

  const Fuse& fuse_;
  const void* given_[3];
  size_t tensors_;
  Stretches stretches_;
  std::vector<double> sums_;
  std::vector<float> weights_, shift_;
};

}  // namespace

void compute_channels_last(const Sru& sru, Element element, const Parallel& parallel) {
  if (sru.batch == 0 || sru.plane == 0) return;
  if (element == kFloat32) return SruRows<float>(sru).run(parallel);
  if (element == kFloat16) return SruRows<Half>(sru).run(parallel);
  SruRows<BFloat>(sru).run(parallel);
}

std::unique_ptr<SruSteps> sru_steps(const Sru& sru, Element element) {
  if (element == kFloat32) return std::make_unique<Steps<float>>(sru);
  if (element == kFloat16) return std::make_unique<Steps<Half>>(sru);
  return std::make_unique<Steps<BFloat>>(sru);
}

void compute_channels_last(const Fuse& fuse, const void* y1_rest, Element element, const Parallel& parallel) {
  if (fuse.batch == 0 || fuse.plane == 0 || fuse.channels == 0) return;
  if (element == kFloat32) return FuseRows<float>(fuse, y1_rest).run(parallel);
  if (element == kFloat16) return FuseRows<Half>(fuse, y1_rest).run(parallel);
  FuseRows<BFloat>(fuse, y1_rest).run(parallel);
}

}  // namespace scconv
