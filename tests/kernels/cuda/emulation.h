// A GPU's execution model on one CPU thread: every CUDA thread is a fiber, and a barrier is a place where it
// gives way until all others have come there. Included before the kernels' headers, which then compile as C++.
//
// Stricter than a GPU: a barrier that not every thread reaches, or a shuffle that not every lane reaches, ends
// the run with a sentence. The order in which fibers run can be changed: where a barrier is missing, so do results.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#define SCCONV_EMULATED 1
#define __device__
#define __global__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct Index {
  unsigned x;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

enum State { kReady, kAtBarrier, kAtWarp, kDone };
constexpr unsigned kLanes = 32;
constexpr size_t kStack = 64 * 1024;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  State state;
};

static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static unsigned current;
static uint64_t slots[1024];
static const std::function<void()>* body;
static const char* failure;

inline void give_way(State state) {
  fibers[current].state = state;
  swapcontext(&fibers[current].context, &scheduler);
}

inline void enter() {
  (*body)();
  give_way(kDone);
}

inline bool all_of(unsigned from, unsigned to, State state) {
  for (unsigned i = from; i < to; ++i) {
    if (fibers[i].state != state) return false;
  }
  return true;
}

inline void release(unsigned from, unsigned to) {
  for (unsigned i = from; i < to; ++i) fibers[i].state = kReady;
}

inline void run_block(unsigned threads, const std::vector<unsigned>& order) {
  for (Fiber& fiber : fibers) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    fiber.state = kReady;
    makecontext(&fiber.context, enter, 0);
  }
  while (!all_of(0, threads, kDone)) {
    bool moved = false;
    for (unsigned i : order) {
      if (fibers[i].state != kReady) continue;
      moved = true;
      current = i;
      threadIdx.x = i;
      swapcontext(&scheduler, &fibers[i].context);
    }
    for (unsigned warp = 0; warp < threads; warp += kLanes) {
      if (all_of(warp, warp + kLanes, kAtWarp)) release(warp, warp + kLanes), moved = true;
    }
    if (all_of(0, threads, kAtBarrier)) release(0, threads), moved = true;
    if (!moved) {
      failure = "some threads wait at a barrier or a shuffle that the others never reach";
      return;
    }
  }
}

// order 0: ascending, 1: descending, above: shuffled with this seed. Returns null, or what went wrong.
inline const char* run(unsigned grid, unsigned threads, unsigned order, const std::function<void()>& kernel) {
  failure = nullptr;
  if (threads == 0 || threads > 1024 || threads % kLanes) return "a block needs whole warps, 1024 threads at most";
  while (fibers.size() < threads) fibers.push_back({{}, std::make_unique<char[]>(kStack), kDone});
  fibers.resize(threads);
  std::vector<unsigned> turns(threads);
  for (unsigned i = 0; i < threads; ++i) turns[i] = order == 1 ? threads - 1 - i : i;
  std::mt19937 generator(order);
  if (order > 1) std::shuffle(turns.begin(), turns.end(), generator);
  body = &kernel;
  blockDim.x = threads;
  gridDim.x = grid;
  for (unsigned block = 0; block < grid && failure == nullptr; ++block) {
    blockIdx.x = block;
    run_block(threads, turns);
  }
  return failure;
}

template <typename T>
T shuffle(T value, unsigned mask, unsigned source) {
  if (mask != 0xffffffffu) failure = "a shuffle without all lanes";
  uint64_t raw = 0;
  std::memcpy(&raw, &value, sizeof value);
  slots[threadIdx.x] = raw;
  give_way(kAtWarp);
  const unsigned lane = threadIdx.x % kLanes;
  raw = slots[threadIdx.x - lane + (source < kLanes ? source : lane)];
  std::memcpy(&value, &raw, sizeof value);
  give_way(kAtWarp);
  return value;
}

}  // namespace emulation

inline void __syncthreads() { emulation::give_way(emulation::kAtBarrier); }

template <typename T>
T __shfl_down_sync(unsigned mask, T value, int step) {
  return emulation::shuffle(value, mask, threadIdx.x % emulation::kLanes + step);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int step) {
  return emulation::shuffle(value, mask, threadIdx.x % emulation::kLanes ^ step);
}

template <typename To, typename From>
To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
inline float __uint_as_float(unsigned bits) { return same_bits<float>(bits); }
inline float __int_as_float(int bits) { return same_bits<float>(bits); }
inline unsigned __float_as_uint(float value) { return same_bits<unsigned>(value); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
using std::fmaxf;

namespace scconv {

inline float half_to_float(unsigned short bits) {
  const unsigned sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return same_bits<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // The exponent's bias is 127 instead of 15; the product also puts subnormal numbers right.
  return same_bits<float>(sign | same_bits<unsigned>(same_bits<float>(magnitude << 13) * 0x1p112f));
}

// To the nearest, ties to even.
inline unsigned short float_to_half(float value) {
  const unsigned bits = same_bits<unsigned>(value), sign = bits >> 16 & 0x8000u;
  const float size = std::fabs(value);
  if (std::isnan(value)) return sign | 0x7fffu;
  if (size >= 65520.0f) return sign | 0x7c00u;
  if (size < 0x1p-14f) return sign | static_cast<unsigned>(std::nearbyint(size * 0x1p24f));
  const unsigned magnitude = (bits & 0x7fffffffu) - (112u << 23);
  return sign | (magnitude + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
}

inline unsigned short float_to_brain(float value) {
  const unsigned bits = same_bits<unsigned>(value);
  if (std::isnan(value)) return 0x7fffu;
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

}  // namespace scconv
