// The fuse's first kernel (paper, equation 7): sums of every channel of y1 and y2 over kSplits parts of the
// plane, parts (N, kSplits, 2C). The second kernel adds the parts up, in a fixed order: results are the same
// in every run, which sums by atomics would not be.
#pragma once

#include "device.cuh"
#include "numbers.cuh"

namespace scconv {

constexpr int kSplits = 8;
constexpr int kPoolThreads = 256;

// The part of a plane that split `index` adds up.
struct Part {
  int from;
  int to;
};
__device__ __forceinline__ Part part_of(int index, int plane) {
  const int length = (plane + kSplits - 1) / kSplits, from = index * length;
  return {from < plane ? from : plane, from + length < plane ? from + length : plane};
}

// (N, C, H, W): one warp per part of a plane. Any grid. With kWhole y1 is [y1; y2], (N, 2C, H, W).
template <bool kWhole, typename T>
__device__ __forceinline__ void pool_planar(const T* y1, const T* y2, long long batch, int channels, int plane,
                                            float* parts) {
  constexpr int kEach = 16 / static_cast<int>(sizeof(T));
  const int lane = threadIdx.x % kWarp;
  const long long warps = static_cast<long long>(gridDim.x) * (blockDim.x / kWarp);
  const long long all = batch * kSplits * 2 * channels;
  long long unit = static_cast<long long>(blockIdx.x) * (blockDim.x / kWarp) + threadIdx.x / kWarp;
  for (; unit < all; unit += warps) {
    const int channel = static_cast<int>(unit % (2 * channels));
    const long long rest = unit / (2 * channels), sample = rest / kSplits;
    const Part part = part_of(static_cast<int>(rest % kSplits), plane);
    const int within = channel < channels ? channel : channel - channels;
    const T* y = kWhole ? y1 + (sample * 2 * channels + channel) * plane
                        : (channel < channels ? y1 : y2) + (sample * channels + within) * plane;
    float sum = 0.0f, other = 0.0f;
    const int off = static_cast<int>(reinterpret_cast<unsigned long long>(y + part.from) % 16 / sizeof(T));
    int first = part.from + (kEach - off) % kEach;
    first = first < part.to ? first : part.to;
    const int vectors = (part.to - first) / kEach;
    for (int i = part.from + lane; i < first; i += kWarp) sum += widen(y[i]);
    for (int v = lane; v < vectors; v += kWarp) {
      float values[kEach];
      load<kEach>(y + first + v * kEach, values);
#pragma unroll
      for (int k = 0; k < kEach; k += 2) {
        sum += values[k];
        other += values[k + 1];
      }
    }
    for (int i = first + vectors * kEach + lane; i < part.to; i += kWarp) sum += widen(y[i]);
    sum = warp_sum(sum + other);
    if (lane == 0) parts[unit] = sum;
  }
}

// (N, H, W, C): one block per sample, part and piece (y1 or y2). Grid: N * kSplits * 2 blocks.
template <bool kWhole, int kEach, typename T>
__device__ __forceinline__ void pool_last(const T* y1, const T* y2, int channels, int plane, float* parts) {
  __shared__ float sums[kPoolThreads * kEach];
  const int columns = channels / kEach, threads = blockDim.x;
  const bool is_first = blockIdx.x % 2 == 0;
  const long long rest = blockIdx.x / 2, sample = rest / kSplits;
  const Part part = part_of(static_cast<int>(rest % kSplits), plane);
  const int stride = kWhole ? 2 * channels : channels;
  const T* y = kWhole ? y1 + (is_first ? 0 : channels) : is_first ? y1 : y2;
  y += sample * plane * stride;
  float* to = parts + rest * 2 * channels + (is_first ? 0 : channels);
  for (int start = 0; start < columns; start += threads) {
    const int wide = columns - start < threads ? columns - start : threads;
    const int rows = threads / wide, row = threadIdx.x / wide;
    const int channel = (start + threadIdx.x % wide) * kEach;
    float sum[kEach] = {};
    for (int p = row < rows ? part.from + row : part.to; p < part.to; p += rows) {
      float values[kEach];
      load<kEach>(y + static_cast<long long>(p) * stride + channel, values);
#pragma unroll
      for (int k = 0; k < kEach; ++k) sum[k] += values[k];
    }
#pragma unroll
    for (int k = 0; k < kEach; ++k) sums[threadIdx.x * kEach + k] = sum[k];
    __syncthreads();
    for (int c = threadIdx.x; c < wide * kEach; c += threads) {
      float total = 0.0f;
      for (int r = 0; r < rows; ++r) total += sums[r * wide * kEach + c];
      to[start * kEach + c] = total;
    }
    __syncthreads();
  }
}

}  // namespace scconv
