// The order of a block's steps: sample by sample where there are samples for all threads, so that everything
// between x and out stays in a core's cache; else all threads together, step by step, over stripes of rows.
#include "block.h"

#include "block_sample.h"
#include "scratch.h"
#include "sru_blocked.h"
#include "tasks.h"

namespace scconv {
namespace {

class Computation {
 public:
  Computation(const Block& block, const Kernels& kernels)
      : block_(block), gates_(block.sru, kernels), steps_(block, kernels) {}

  void sample_by_sample(const Parallel& parallel) const {
    in_tasks(parallel, block_.sru.batch, work(), [&](size_t sample) { compute_alone(sample); });
  }

  void step_by_step(const Parallel& parallel) const {
    const size_t batch = block_.sru.batch, stripes = steps_.stripes(), chunks = steps_.chunks();
    const size_t values = batch * block_.sru.channels * block_.sru.plane;
    in_tasks(parallel, batch * gates_.pieces_per_sample(), values, [&](size_t i) { gates_.measure(i); });
    for (size_t sample = 0; sample < batch; ++sample) gates_.normalise(sample);
    const Spaces spaces(*this, batch);
    in_tasks(parallel, batch * stripes, work(),
             [&](size_t i) { squeeze(i / stripes, i % stripes, spaces.of(i / stripes)); });
    bool are_weighed[kSamplesApart] = {};
    bool are_all = steps_.prefers_sums();
    for (size_t sample = 0; sample < batch && steps_.prefers_sums(); ++sample) {
      are_weighed[sample] = steps_.weigh_by_linearity(spaces.of(sample));
      are_all = are_all && are_weighed[sample];
    }
    // Stripes of one chunk of channels follow each other, and so do their weights.
    const auto each = [&](bool weighed, auto step) {
      in_tasks(parallel, batch * stripes * chunks, work(), [&](size_t i) {
        const size_t sample = i / (stripes * chunks);
        if (are_weighed[sample] == weighed) step(sample, i % stripes, i / stripes % chunks);
      });
    };
    if (steps_.prefers_sums()) {
      each(true, [&](size_t sample, size_t stripe, size_t chunk) {
        steps_.mix(spaces.of(sample), stripe, chunk, added(sample), out(sample));
      });
    }
    if (are_all) return;
    float* seconds = aligned_scratch<kForSecond>(batch * steps_.second_floats());
    each(false, [&](size_t sample, size_t stripe, size_t chunk) {
      steps_.apply(spaces.of(sample), stripe, chunk, seconds + sample * steps_.second_floats(), out(sample));
    });
    for (size_t sample = 0; sample < batch; ++sample) {
      if (!are_weighed[sample]) steps_.weigh_by_results(spaces.of(sample));
    }
    each(false, [&](size_t sample, size_t stripe, size_t chunk) {
      steps_.combine(spaces.of(sample), stripe, chunk, seconds + sample * steps_.second_floats(),
                     added(sample), out(sample));
    });
  }

 private:
  // Memory of the calling thread for some samples.
  struct Spaces {
    Spaces(const Computation& work, size_t samples)
        : steps(work.steps_),
          floats(aligned_scratch<kForSample>(samples * work.steps_.floats())),
          doubles(scratch<double, kForSample>(samples * work.steps_.doubles())) {}

    Workspace of(size_t sample) const {
      return steps.workspace(floats + sample * steps.floats(), doubles + sample * steps.doubles());
    }

    const BlockSample& steps;
    float* floats;
    double* doubles;
  };

  void compute_alone(size_t sample) const {
    const size_t pieces = gates_.pieces_per_sample();
    for (size_t i = 0; i < pieces; ++i) gates_.measure(sample * pieces + i);
    gates_.normalise(sample);
    const Workspace space = Spaces(*this, 1).of(0);
    for (size_t stripe = 0; stripe < steps_.stripes(); ++stripe) squeeze(sample, stripe, space);
    const auto each = [&](auto step) {
      for (size_t chunk = 0; chunk < steps_.chunks(); ++chunk) {
        for (size_t stripe = 0; stripe < steps_.stripes(); ++stripe) step(stripe, chunk);
      }
    };
    if (steps_.prefers_sums() && steps_.weigh_by_linearity(space)) {
      each(
          [&](size_t stripe, size_t chunk) { steps_.mix(space, stripe, chunk, added(sample), out(sample)); });
      return;
    }
    float* second = aligned_scratch<kForSecond>(steps_.second_floats());
    each([&](size_t stripe, size_t chunk) { steps_.apply(space, stripe, chunk, second, out(sample)); });
    steps_.weigh_by_results(space);
    each([&](size_t stripe, size_t chunk) {
      steps_.combine(space, stripe, chunk, second, added(sample), out(sample));
    });
  }

  void squeeze(size_t sample, size_t stripe, const Workspace& space) const {
    float* tile = aligned_scratch<kForTask>(steps_.tile_floats());
    const size_t half = block_.sru.channels / 2, width = block_.width;
    const size_t first = steps_.first_row(stripe) * width, rows = steps_.rows(stripe) * width;
    for (size_t channel = 0; channel < half; channel += block_.sru.block) {
      gates_.gate(sample, channel, first, rows, tile + channel * rows, tile + (half + channel) * rows);
    }
    steps_.squeeze(space, stripe, tile);
  }

  // In units of a value that is only read: a value's share of the convolutions is some hundred products.
  size_t work() const { return 16 * block_.sru.batch * block_.sru.channels * block_.sru.plane; }

  float* out(size_t sample) const { return block_.out + sample * block_.outputs * block_.sru.plane; }
  const float* added(size_t sample) const {
    return block_.fuse.added ? block_.added + sample * block_.outputs * block_.sru.plane : nullptr;
  }

  const Block& block_;
  const BlockedGates gates_;
  const BlockSample steps_;
};

}  // namespace

void compute(const Block& block, const Kernels& kernels, const Parallel& parallel) {
  if (block.sru.batch == 0 || block.sru.plane == 0) return;
  const Computation work(block, kernels);
  if (block.sru.batch >= kSamplesApart)
    work.sample_by_sample(parallel);
  else
    work.step_by_step(parallel);
}

}  // namespace scconv
