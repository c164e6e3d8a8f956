// Two phases: moments of pieces of fixed size, merged in a fixed order (so the result does not depend on the
// number of threads); then the gate, by runs in which a channel and its partner stay within one group each.
#include "sru.h"

#include "norm.h"
#include "scratch.h"
#include "tasks.h"

namespace scconv {
namespace {

// 64 KiB of floats: a task worth starting, and half of a sample at the smallest layers.
constexpr size_t kPiece = 16384;

class Computation {
 public:
  Computation(const Sru& sru, const Kernels& kernels)
      : sru_(sru),
        kernels_(kernels),
        item_(size_of(sru.type)),
        sample_(sru.channels * sru.plane),
        group_(sample_ / sru.groups),
        pieces_per_group_((group_ + kPiece - 1) / kPiece),
        pieces_(scratch<Moments>(sru.batch * pieces_per_sample())),
        norms_(scratch<GroupNorm>(sru.batch * sru.groups)) {}

  size_t pieces_per_sample() const { return sru_.groups * pieces_per_group_; }
  size_t pairs_per_sample() const { return sru_.channels / 2; }

  // Piece `index` of the whole batch.
  void measure(size_t index) const {
    const size_t group = index / pieces_per_group_, start = index % pieces_per_group_ * kPiece;
    const size_t length = group_ - start < kPiece ? group_ - start : kPiece;
    pieces_[index] = kernels_.moments[sru_.type](input(group * group_ + start), length);
  }

  // Group `index` of the whole batch.
  void normalise(size_t index) const {
    const Moments* pieces = pieces_ + index * pieces_per_group_;
    Moments all = pieces[0];
    for (size_t i = 1; i < pieces_per_group_; ++i) all = merged(all, pieces[i]);
    norms_[index] = norm_of(sru_, all);
  }

  // Channel `index % (C/2)` of sample `index / (C/2)`, with its partner.
  void gate(size_t index) const {
    const size_t half = pairs_per_sample();
    const size_t sample = index / half, channel = index % half, partner = channel + half;
    const size_t from = sample * sample_ + channel * sru_.plane, shift = half * sru_.plane;
    const size_t to = (sample * half + channel) * sru_.plane;
    for (size_t start = 0; start < sru_.plane;) {
      const Place a = place(channel, start), b = place(partner, start);
      size_t length = sru_.plane - start;
      length = a.left < length ? a.left : length;
      length = b.left < length ? b.left : length;
      Reach reach = kNarrow;
      RunGate run;
      run.a = channel_gate(sru_, norms_[sample * sru_.groups + a.group], channel, reach);
      run.b = channel_gate(sru_, norms_[sample * sru_.groups + b.group], partner, reach);
      run.logit = sru_.logit;
      run.at_least = sru_.form.at_least ? -1 : 0;
      kernels_.gate[sru_.type][sru_.form.gate][sru_.form.normalised][sru_.form.within][reach](
          input(from + start), input(from + shift + start), output(sru_.y_a, to + start),
          output(sru_.y_b, to + start), length, run);
      start += length;
    }
  }

 private:
  struct Place {
    size_t group;
    size_t left;  // values from here to the group's end
  };

  Place place(size_t channel, size_t position) const {
    const size_t flat = channel * sru_.plane + position;
    return {flat / group_, group_ - flat % group_};
  }

  const void* input(size_t at) const { return static_cast<const char*>(sru_.x) + at * item_; }
  void* output(void* y, size_t at) const { return static_cast<char*>(y) + at * item_; }

  const Sru& sru_;
  const Kernels& kernels_;
  size_t item_, sample_, group_, pieces_per_group_;
  Moments* pieces_;
  GroupNorm* norms_;
};

}  // namespace

void compute(const Sru& sru, const Kernels& kernels, const Parallel& parallel) {
  if (sru.batch == 0 || sru.plane == 0) return;
  if (sru.block != 0) return compute_blocked(sru, kernels, parallel);
  const Computation work(sru, kernels);
  const size_t pieces = work.pieces_per_sample(), pairs = work.pairs_per_sample();
  const size_t values = sru.batch * sru.channels * sru.plane;
  if (sru.batch >= kSamplesApart) {
    // Sample by sample: what the first phase read is still in the core's L2 for the second.
    in_tasks(parallel, sru.batch, values, [&](size_t sample) {
      for (size_t i = 0; i < pieces; ++i) work.measure(sample * pieces + i);
      for (size_t i = 0; i < sru.groups; ++i) work.normalise(sample * sru.groups + i);
      for (size_t i = 0; i < pairs; ++i) work.gate(sample * pairs + i);
    });
    return;
  }
  in_tasks(parallel, sru.batch * pieces, values, [&](size_t i) { work.measure(i); });
  for (size_t i = 0; i < sru.batch * sru.groups; ++i) work.normalise(i);
  in_tasks(parallel, sru.batch * pairs, values, [&](size_t i) { work.gate(i); });
}

}  // namespace scconv
