// A whole SCConv block over (N, H*W, C): SRU, both squeezes, Y1 and Y2, the fuse, as one operator.
//
// Tensors between them stay in scratch memory of some 100 KiB; Y1 and Y2 exist a few positions at a time:
//   1. moments of x -> the gates;
//   2. by stretches of positions: gate and cross reconstruction, both squeezes -> `up`, with a border of zeros, and
//      `low`, with the sums of both;
//   3. the means of Y1 and Y2 by linearity: the mean of a convolution is the convolution of sums, which for a tap
//      of the kernel leave out the lines that the tap does not see; softmax -> a weight per channel;
//   4. by tiles: Y1 and Y2 in float, weighed, scaled, shifted, through ReLU, stored once.
#pragma once

#include <memory>

#include "channels_last.h"

namespace scconv {

struct Block {
  Sru sru;  // y_a and y_b are not read
  FuseForm fuse;
  size_t height = 0, width = 0;
  const float* biases[4] = {};  // of squeeze_up, squeeze_low, Y1, Y2
  const float* scale = nullptr;  // with fuse.affine
  const float* shift = nullptr;
  void* out = nullptr;
  size_t threads = 1;
};

struct BlockSizes {
  size_t channels, up, low, out, kernel;
};

// The convolutions' weights as the kernel of this CPU takes them.
class BlockKernel {
 public:
  virtual ~BlockKernel() = default;
  virtual void run(const Block& block, const Parallel& parallel) const = 0;
};

// Whether there is a kernel for these sizes in this build and on this CPU.
bool has_block(Element element, const BlockSizes& sizes);

// Weights as convolutions have them, (out, in, k, k): squeeze_up, squeeze_low, Y1 (dense), Y2. Null as has_block says.
std::unique_ptr<BlockKernel> make_block(Element element, const BlockSizes& sizes, const void* const* weights);

}  // namespace scconv
