// What the inner loops offer, and what they are told: the border between one build per instruction set
// (inner_loops.cpp, compiled several times) and the code that is compiled once (sru.cpp, fuse.cpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "convolution.h"

namespace scconv {

// IEEE 754 binary16 as stored; arithmetic is done in float.
struct Half {
  uint16_t bits;
};

enum Type { kFloat = 0, kHalf = 1, kTypes = 2 };

inline size_t size_of(Type type) { return type == kFloat ? sizeof(float) : sizeof(Half); }

// What the two branches keep of the gated tensor; see scconv/spec.py.
enum Gate { kHard = 0, kSoft = 1, kComplementSoft = 2, kStatic = 3, kGates = 4 };

// How sigmoid(s) is computed where |s| is known to be small; see gate.h.
enum Reach { kNarrow = 0, kWide = 1, kAnywhere = 2, kReaches = 3 };
constexpr float kNarrowReach = 0.5f;
constexpr float kWideReach = 1.5f;

// Statistics of `count` values; `m2` is the sum of squared distances from `mean`.
struct Moments {
  double count;
  double mean;
  double m2;
  float low;
  float high;
};

// One channel within one norm group: affine(x) = slope * (x - centre) + offset.
struct ChannelGate {
  float slope;
  float centre;
  float offset;
  float weight;  // s = weight * affine(x), where the normalised tensor is gated
  float mask;    // 0 or 1, static gate only
};

// A run of positions in which channel c and its partner c + C/2 each stay within one norm group.
struct RunGate {
  ChannelGate a;
  ChannelGate b;
  float logit;
  int32_t at_least;  // all bits set: s >= logit; zero: s > logit
};

// The same for a blocked tensor, one value per channel of a block: arrays from its first channel on.
struct BlockGate {
  struct Channels {
    const float* slope;
    const float* centre;
    const float* offset;
    const float* weight;  // read where the normalised tensor is gated
    const float* mask;    // read by a static gate
  };
  Channels a;
  Channels b;
  float logit;
  int32_t at_least;
};

using MomentsFunction = Moments (*)(const void* x, size_t count);
using GateFunction = void (*)(const void* x_a, const void* x_b, void* y_a, void* y_b, size_t count,
                              const RunGate& run);
using SumFunction = double (*)(const void* x, size_t count);
// `added` may be null where the form adds nothing.
using CombineFunction = void (*)(const void* y1, const void* y2, const void* added, void* out, size_t count,
                                 float weight1, float weight2, float shift);
// Pooled means -> weights. Joint: softmax over all 2C. Pair: softmax over (c, c + C) per channel c.
using WeightsFunction = void (*)(const double* pooled, float* weights, size_t channels);

// ONNX Runtime's blocked layout, (N, C/block, H*W, block): a row is one position of one block of channels.
// Everything is per channel; arrays begin with the block's first channel.
using BlockMomentsFunction = void (*)(const float* x, size_t rows, Moments* per_channel);
using BlockSumsFunction = void (*)(const float* x, size_t rows, double* per_channel);
using BlockProductsFunction = void (*)(const float* weights, const double* inputs, size_t count,
                                       double* per_channel);
using BlockGateFunction = void (*)(const float* x_a, const float* x_b, float* y_a, float* y_b, size_t rows,
                                   const BlockGate& gate);
using BlockCombineFunction = void (*)(const float* y1, const float* y2, const float* added, float* out,
                                      size_t rows, const float* weight1, const float* weight2,
                                      const float* shift);

struct BlockedKernels {
  BlockMomentsFunction moments;
  BlockSumsFunction sums;
  BlockGateFunction gate[kGates][2 /* normalised */][2 /* within */][kReaches];
  BlockCombineFunction combine[2 /* added */][2 /* ReLU */];
  BlockProductsFunction products;
  ConvolveFunction convolve;
};

// The inner loops in one instruction set.
struct Kernels {
  const char* name;
  MomentsFunction moments[kTypes];
  GateFunction gate[kTypes][kGates][2 /* normalised */][2 /* within */][kReaches];
  SumFunction sum[kTypes];
  CombineFunction combine[kTypes][2 /* added */][2 /* ReLU */];
  WeightsFunction joint;
  WeightsFunction pair;
  const BlockedKernels* blocks_of_8;   // null where a vector is longer than that
  const BlockedKernels* blocks_of_16;

  const BlockedKernels* blocked(size_t block) const {
    return block == 8 ? blocks_of_8 : block == 16 ? blocks_of_16 : nullptr;
  }
};

// The fastest build this CPU can run, unless a test selected another one.
const Kernels& kernels();

// The same among the builds that have kernels for this block; null where none has.
const Kernels* kernels_for(size_t block);

// Use the build of this name from now on; false where it was not built or this CPU cannot run it.
bool select_kernels(const char* name);

// Runs body(0) ... body(tasks - 1), perhaps at the same time; returns when all have ended.
class Parallel {
 public:
  using Body = void (*)(void* data, size_t task);
  virtual void run(size_t tasks, Body body, void* data) const = 0;

  template <typename Function>
  void each(size_t tasks, const Function& function) const {
    if (tasks == 1) return function(size_t{0});
    run(
        tasks, [](void* data, size_t task) { (*static_cast<const Function*>(data))(task); },
        const_cast<Function*>(&function));
  }

 protected:
  ~Parallel() = default;
};

}  // namespace scconv
