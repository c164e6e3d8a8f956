// The steps of one sample of a block, each for a stripe of rows: block.cpp says in which order and on which
// thread. Stripes depend on the shape alone, and what they add up is added in their order.
//
// The means of y1 and y2 follow from those of `up` and `low`, since convolutions are linear: of `up`, one
// mean per tap, over the positions that the tap sees. Then y1 and y2 need never be stored. Where the planes
// are small, that costs more than storing them, and where a value is not finite it would not give what y1 and
// y2 have: there y1 goes into `out` and y2 beside it, and their means are taken.
#pragma once

#include "block.h"

namespace scconv {

// What a sample needs while it is worked on.
struct Workspace {
  float* up;  // with zeros around the planes
  float* low;
  float* folded;   // y2's weights times those of the softmax
  float* weights;  // per output: of y1, of y2, and what is added to their sum
  double* sums;    // per stripe: of `up` per tap, and of `low`; or of y1 and of y2
  double* means;   // the same over all stripes, and then of y1 and of y2
};

class BlockSample {
 public:
  BlockSample(const Block& block, const Kernels& kernels);

  size_t stripes() const { return stripes_; }
  size_t chunks() const { return block_.groups * chunks_per_group_; }  // of output channels
  size_t floats() const { return up_size_ + low_size_ + folded_size_ + 3 * block_.outputs; }
  size_t doubles() const { return stripes_ * sums_size_ + means_size_ + 2 * block_.outputs; }
  size_t tile_floats() const { return block_.sru.channels * rows_ * block_.width; }
  size_t second_floats() const { return block_.copied_from * plane_; }
  bool prefers_sums() const { return prefers_sums_; }

  Workspace workspace(float* floats, double* doubles) const;

  // Rows of a stripe: `first_row` of them go before it.
  size_t first_row(size_t stripe) const { return stripe * block_.height / stripes_; }
  size_t rows(size_t stripe) const { return first_row(stripe + 1) - first_row(stripe); }

  // From the gated tile of a stripe: `up` and `low`, and their sums where they are wanted.
  void squeeze(const Workspace& space, size_t stripe, const float* tile) const;

  // The weights by the sums of up and low. False where one of them is not finite.
  bool weigh_by_linearity(const Workspace& space) const;
  void mix(const Workspace& space, size_t stripe, size_t chunk, const float* added, float* out) const;

  // The same by y1, in `out`, and y2, in `second`.
  void apply(const Workspace& space, size_t stripe, size_t chunk, float* second, float* out) const;
  void weigh_by_results(const Workspace& space) const;
  void combine(const Workspace& space, size_t stripe, size_t chunk, const float* second, const float* added,
               float* out) const;

 private:
  struct Chunk {
    size_t group;
    size_t first;
    size_t blocks;
  };

  Chunk chunk_at(size_t index) const;
  void pad(float* up, size_t stripe) const;
  void sum_inputs(const Workspace& space, size_t stripe) const;
  void sum_row(const float* row, double* seen) const;
  void weigh(const Workspace& space) const;
  void fold(const Workspace& space) const;
  Convolution first_branch(const Workspace& space, size_t group) const;
  Term second_branch(const Workspace& space, const float* weights) const;
  const float* second_at(const Workspace& space, const float* second, size_t block) const;
  Strides plane_strides() const { return {b_, block_.width * b_, plane_ * b_}; }

  const Block& block_;
  const Kernels& kernels_;
  const BlockedKernels& blocked_;
  size_t b_, plane_, border_, wide_, padded_;  // wide_: width with zeros; padded_: positions with zeros
  size_t taps_, per_group_, own_;              // per_group_: output blocks; own_: channels of `up` in a group
  size_t chunks_per_group_, rows_, stripes_;
  size_t up_size_, low_size_, folded_size_, sums_size_, means_size_;
  bool prefers_sums_;
};

}  // namespace scconv
