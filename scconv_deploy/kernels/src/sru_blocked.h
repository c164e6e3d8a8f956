// What SRU's gate of each channel is told, for x in the blocked layout: moments in fixed pieces, merged in a
// fixed order, so results do not depend on the threads.
#pragma once

#include "sru.h"

namespace scconv {

class BlockedGates {
 public:
  // Keeps memory of the calling thread until the next one is made on it.
  BlockedGates(const Sru& sru, const Kernels& kernels);

  size_t pieces_per_sample() const { return units_ * pieces_per_unit_; }

  // Piece `index` of the whole batch.
  void measure(size_t index) const;

  // The gates of all channels of a sample, once its pieces are measured.
  void normalise(size_t sample) const;

  // Gates `rows` rows of the block of x that begins with `channel` < C/2, and of its partner.
  void gate(size_t sample, size_t channel, size_t first_row, size_t rows, float* y_a, float* y_b) const;

 private:
  Moments whole(size_t sample, size_t group) const;
  BlockGate::Channels channels(size_t sample, size_t channel) const;

  const Sru& sru_;
  const Kernels& kernels_;
  const BlockedKernels& blocked_;
  size_t sample_, group_;
  bool is_contiguous_;
  size_t units_, pieces_per_unit_, moments_per_piece_;
  Moments* moments_;
  float* gates_;  // per sample: slopes, centres and offsets of all channels
  Reach* reaches_;
};

}  // namespace scconv
