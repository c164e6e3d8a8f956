// SRU on (N, C, H, W) in one kernel. A sample is a flat vector of C*H*W values; its first half is cut along the
// groups, and one block takes one piece of it and the same piece of the second half: value i meets i + C*H*W/2.
//
// With an even number of groups the piece is group g and its partner is group g + G/2. With an odd number the
// partner piece lies in two groups and the last piece is half a group; then a block measures up to three groups.
// Two passes: statistics, and the gate, which finds most of its values in the L2 cache.
#pragma once

#include "gate.cuh"

namespace scconv {

constexpr int kSruThreads = 512;
constexpr int kTogether = 16;  // values that a thread has in flight

template <typename T>
constexpr int kVector = 16 / static_cast<int>(sizeof(T));

// Moments of values [from, to) of the sample, in thread 0.
template <typename T>
__device__ __forceinline__ Moments measure(const T* sample, int from, int to, float pivot, bool in_vectors) {
  constexpr int kEach = kVector<T>, kLoads = kTogether / kEach;
  const int thread = threadIdx.x, threads = blockDim.x;
  Moments all{0.0f, 0.0f, 0.0f};
  const auto single = [&](int i) { merge(all, Moments{1.0f, widen(sample[i]) - pivot, 0.0f}); };
  int first = to, vectors = 0;
  if (in_vectors) {
    const int off = static_cast<int>(reinterpret_cast<unsigned long long>(sample + from) % 16 / sizeof(T));
    first = from + (kEach - off) % kEach;
    first = first < to ? first : to;
    vectors = (to - first) / kEach;
  }
  for (int i = from + thread; i < first; i += threads) single(i);
  float values[kTogether];
  int at = thread;
  for (; at + (kLoads - 1) * threads < vectors; at += kLoads * threads) {
#pragma unroll
    for (int k = 0; k < kLoads; ++k) load<kEach>(sample + first + (at + k * threads) * kEach, values + k * kEach);
#pragma unroll
    for (int i = 0; i < kTogether; ++i) values[i] -= pivot;
    merge(all, moments_of<kTogether>(values));
  }
  for (; at < vectors; at += threads) {
    load<kEach>(sample + first + at * kEach, values);
#pragma unroll
    for (int i = 0; i < kEach; ++i) values[i] -= pivot;
    merge(all, moments_of<kEach>(values));
  }
  for (int i = first + vectors * kEach + thread; i < to; i += threads) single(i);
  return all;
}

// The moments of all threads together, in every thread.
__device__ __forceinline__ Moments block_merged(Moments mine) {
  __shared__ Moments of_warp[kWarp];
  for (int step = kWarp / 2; step > 0; step /= 2) {
    Moments other;
    other.count = __shfl_down_sync(kAllLanes, mine.count, step);
    other.mean = __shfl_down_sync(kAllLanes, mine.mean, step);
    other.m2 = __shfl_down_sync(kAllLanes, mine.m2, step);
    merge(mine, other);
  }
  const int warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  __syncthreads();  // the last call's values have been read
  if (threadIdx.x % kWarp == 0) of_warp[warp] = mine;
  __syncthreads();
  Moments all = of_warp[0];
  for (int i = 1; i < warps; ++i) merge(all, of_warp[i]);
  return all;
}

template <typename Form, typename T>
__device__ __forceinline__ Norm group_norm(const T* sample, int group, int size, float epsilon,
                                           bool in_vectors) {
  const int from = group * size;
  const float pivot = widen(sample[from]);
  return norm_of<Form>(block_merged(measure(sample, from, from + size, pivot, in_vectors)), pivot, epsilon);
}

// Values i of the first half and i + half of the second.
template <typename Form, typename T>
struct Pairs {
  SruConstants constants;
  const T* x;
  T* y_a;
  T* y_b;
  int half;
  int plane;
  int border;  // from this value of the second half on, `later` is its group's norm
  Norm mine;
  Norm partner;
  Norm later;

  __device__ __forceinline__ Channel first(int channel) const {
    return channel_of<Form>(constants, mine, channel);
  }
  __device__ __forceinline__ Channel second(int channel, int i) const {
    return channel_of<Form>(constants, i + half < border ? partner : later, channel);
  }

  __device__ __forceinline__ void one(int i) const {
    float a = widen(x[i]), b = widen(x[i + half]);
    halves<Form>(a, b, first(i / plane), second((i + half) / plane, i), constants.logit);
    y_a[i] = narrow<T>(a);
    y_b[i] = narrow<T>(b);
  }

  template <int kEach>
  __device__ __forceinline__ void several(int i) const {
    const int channel = i / plane, partner_channel = (i + half) / plane, last = i + kEach - 1;
    const bool is_whole = last / plane == channel && (last + half) / plane == partner_channel &&
                          (i + half < border) == (last + half < border);
    if (!is_whole) {
      for (int k = 0; k < kEach; ++k) one(i + k);
      return;
    }
    float a[kEach], b[kEach];
    load<kEach>(x + i, a);
    load<kEach>(x + i + half, b);
    const Channel at_a = first(channel), at_b = second(partner_channel, i);
#pragma unroll
    for (int k = 0; k < kEach; ++k) halves<Form>(a[k], b[k], at_a, at_b, constants.logit);
    store<kEach>(y_a + i, a);
    store<kEach>(y_b + i, b);
  }
};

// Grid: N * ceil(groups / 2) blocks. x (N, C, H, W); plane = H*W; y_a, y_b (N, C/2, H, W), or with kWhole the
// halves of one y (N, C, H, W).
template <typename Form, bool kWhole, typename T>
__device__ __forceinline__ void sru_planar(const T* x, SruConstants constants, int channels, int plane,
                                           int groups, T* y_a, T* y_b) {
  constexpr int kEach = kVector<T>;
  const int pieces = (groups + 1) / 2, piece = blockIdx.x % pieces;
  const long long sample = blockIdx.x / pieces;
  const int half = channels / 2 * plane, size = 2 * half / groups;
  const int from = piece * size, to = from + size < half ? from + size : half;
  const long long to_sample = sample * (kWhole ? 2 : 1) * half;
  if constexpr (kWhole) y_b = y_a + half;
  Pairs<Form, T> pairs{constants, x + sample * 2 * half, y_a + to_sample, y_b + to_sample, half, plane};
  const bool in_vectors = is_aligned(x, 16);
  const int low = (from + half) / size, high = (to - 1 + half) / size;
  pairs.border = (low + 1) * size;
  pairs.mine = group_norm<Form>(pairs.x, piece, size, constants.epsilon, in_vectors);
  pairs.partner =
      low == piece ? pairs.mine : group_norm<Form>(pairs.x, low, size, constants.epsilon, in_vectors);
  pairs.later =
      high == low ? pairs.partner : group_norm<Form>(pairs.x, high, size, constants.epsilon, in_vectors);
  // All four arrays must be off an aligned address by the same number of values.
  const bool together = in_vectors && is_aligned(y_a, 16) && is_aligned(y_b, 16) && half % kEach == 0;
  int first = to;
  if (together) {
    first = from + (kEach - from % kEach) % kEach;
    first = first < to ? first : to;
  }
  const int vectors = (to - first) / kEach, thread = threadIdx.x, threads = blockDim.x;
  for (int i = from + thread; i < first; i += threads) pairs.one(i);
  for (int i = thread; i < vectors; i += threads) pairs.template several<kEach>(first + i * kEach);
  for (int i = first + vectors * kEach + thread; i < to; i += threads) pairs.one(i);
}

}  // namespace scconv
