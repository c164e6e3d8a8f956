// The fuse's second kernel (paper, equations 8 and 9, with a folded BatchNorm and a ReLU):
// out = relu(scale * (p1 * y1 + p2 * y2) + shift + added), where p1, p2 are the softmax of the means of y1 and y2, over
// all 2C of them (joint) or per channel over the two (pair). Every block works the softmax out again: 2C values
// that are in the L2 cache, against a third kernel.
#pragma once

#include "pool.cuh"

namespace scconv {

constexpr int kMixThreads = 256;
constexpr int kMostChannels = 64;  // of a block of the planar kernel

template <bool kPairwise, bool kHasAffine, bool kHasAdded, bool kHasRelu>
struct FuseForm {
  static constexpr bool kPair = kPairwise;
  static constexpr bool kAffine = kHasAffine;
  static constexpr bool kAdded = kHasAdded;
  static constexpr bool kRelu = kHasRelu;
};

struct FuseConstants {
  const float* scale;  // null where nothing is folded in
  const float* shift;
};

// Of one sample: the parts' sums, (kSplits, 2C), and what the softmax over all needs.
struct Means {
  const float* parts;
  int channels;
  int plane;
  float top;
  float total;

  __device__ __forceinline__ float at(int index) const {
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < kSplits; ++k) sum += parts[k * 2 * channels + index];
    return sum / static_cast<float>(plane);
  }
};

__device__ __forceinline__ float block_combined(float mine, bool is_sum) {
  __shared__ float of_warp[kWarp];
  mine = is_sum ? warp_sum(mine) : warp_maximum(mine);
  __syncthreads();  // the last call's values have been read
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = mine;
  __syncthreads();
  float all = of_warp[0];
  for (unsigned i = 1; i < blockDim.x / kWarp; ++i) all = is_sum ? all + of_warp[i] : fmaxf(all, of_warp[i]);
  return all;
}

template <typename Form>
__device__ __forceinline__ Means means_of(const float* parts, int channels, int plane) {
  Means means{parts, channels, plane, 0.0f, 1.0f};
  if constexpr (!Form::kPair) {
    float top = means.at(0);
    for (int i = threadIdx.x; i < 2 * channels; i += blockDim.x) top = fmaxf(top, means.at(i));
    means.top = block_combined(top, false);
    float total = 0.0f;
    // A NaN, which fmaxf passes over, comes into the sum here.
    for (int i = threadIdx.x; i < 2 * channels; i += blockDim.x) total += expf(means.at(i) - means.top);
    means.total = block_combined(total, true);
  }
  return means;
}

struct Mixed {
  float first;
  float second;
  float shift;
};

template <typename Form>
__device__ __forceinline__ Mixed mixed_of(const Means& means, const FuseConstants& constants, int channel) {
  const float q1 = means.at(channel), q2 = means.at(means.channels + channel);
  Mixed mixed;
  if constexpr (Form::kPair) {
    mixed.first = 1.0f / (1.0f + expf(q2 - q1));
    mixed.second = 1.0f / (1.0f + expf(q1 - q2));
  } else {
    mixed.first = expf(q1 - means.top) / means.total;
    mixed.second = expf(q2 - means.top) / means.total;
  }
  const float scale = Form::kAffine ? constants.scale[channel] : 1.0f;
  mixed.first *= scale;
  mixed.second *= scale;
  mixed.shift = Form::kAffine ? constants.shift[channel] : 0.0f;
  return mixed;
}

template <typename Form>
__device__ __forceinline__ float mix_of(float a, float b, float added, const Mixed& mixed) {
  float value = a * mixed.first + b * mixed.second;
  if constexpr (Form::kAffine) value += mixed.shift;
  if constexpr (Form::kAdded) value += added;
  // Not fmaxf: a NaN must stay one.
  return Form::kRelu && value < 0.0f ? 0.0f : value;
}

// (N, C, H, W). Grid: N * ceil(C / width) blocks, width <= kMostChannels. With kWhole y1 is [y1; y2].
template <typename Form, bool kWhole, typename T>
__device__ __forceinline__ void mix_planar(const T* y1, const T* y2, const float* parts, FuseConstants constants,
                                           const T* added, int channels, int plane, int width, T* out) {
  __shared__ Mixed mixed[kMostChannels];
  constexpr int kEach = 16 / static_cast<int>(sizeof(T));
  const int blocks = (channels + width - 1) / width, from = blockIdx.x % blocks * width;
  const long long sample = blockIdx.x / blocks;
  const int taken = channels - from < width ? channels - from : width;
  const Means means = means_of<Form>(parts + sample * kSplits * 2 * channels, channels, plane);
  for (int c = threadIdx.x; c < taken; c += blockDim.x) mixed[c] = mixed_of<Form>(means, constants, from + c);
  __syncthreads();
  const long long start = (sample * channels + from) * plane;
  const long long from_sample = kWhole ? start + sample * channels * plane : start;
  y1 += from_sample;
  y2 = kWhole ? y1 + static_cast<long long>(channels) * plane : y2 + start;
  if constexpr (Form::kAdded) added += start;
  out += start;
  const int count = taken * plane, thread = threadIdx.x, threads = blockDim.x;
  const auto one = [&](int i) {
    const float more = Form::kAdded ? widen(added[i]) : 0.0f;
    out[i] = narrow<T>(mix_of<Form>(widen(y1[i]), widen(y2[i]), more, mixed[i / plane]));
  };
  const unsigned off = reinterpret_cast<unsigned long long>(y1) % 16;
  const bool together = reinterpret_cast<unsigned long long>(y2) % 16 == off &&
                        reinterpret_cast<unsigned long long>(out) % 16 == off &&
                        (!Form::kAdded || reinterpret_cast<unsigned long long>(added) % 16 == off);
  int first = together ? (kEach - static_cast<int>(off / sizeof(T))) % kEach : count;
  first = first < count ? first : count;
  const int vectors = (count - first) / kEach;
  for (int i = thread; i < first; i += threads) one(i);
  for (int v = thread; v < vectors; v += threads) {
    const int i = first + v * kEach;
    float a[kEach], b[kEach], more[kEach] = {};
    load<kEach>(y1 + i, a);
    load<kEach>(y2 + i, b);
    if constexpr (Form::kAdded) load<kEach>(added + i, more);
    int channel = i / plane, border = (channel + 1) * plane;
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      while (i + k >= border) {
        ++channel;
        border += plane;
      }
      a[k] = mix_of<Form>(a[k], b[k], more[k], mixed[channel]);
    }
    store<kEach>(out + i, a);
  }
  for (int i = first + vectors * kEach + thread; i < count; i += threads) one(i);
}

// (N, H, W, C). Grid: N * ceil(plane / positions) blocks. With kWhole y1 is [y1; y2].
template <typename Form, bool kWhole, int kEach, typename T>
__device__ __forceinline__ void mix_last(const T* y1, const T* y2, const float* parts, FuseConstants constants,
                                         const T* added, int channels, int plane, int positions, T* out) {
  const int blocks = (plane + positions - 1) / positions, from = blockIdx.x % blocks * positions;
  const long long sample = blockIdx.x / blocks;
  const int to = from + positions < plane ? from + positions : plane;
  const Means means = means_of<Form>(parts + sample * kSplits * 2 * channels, channels, plane);
  const int stride = kWhole ? 2 * channels : channels;
  if constexpr (kWhole) y2 = y1 + channels;
  const int columns = channels / kEach, threads = blockDim.x;
  for (int before = 0; before < columns; before += threads) {
    const int wide = columns - before < threads ? columns - before : threads;
    const int rows = threads / wide, row = threadIdx.x / wide;
    const int channel = (before + threadIdx.x % wide) * kEach;
    Mixed mixed[kEach];
#pragma unroll
    for (int k = 0; k < kEach; ++k) mixed[k] = mixed_of<Form>(means, constants, channel + k);
    for (int p = row < rows ? from + row : to; p < to; p += rows) {
      const long long position = sample * plane + p;
      const long long read = position * stride + channel, at = position * channels + channel;
      float a[kEach], b[kEach], more[kEach] = {};
      load<kEach>(y1 + read, a);
      load<kEach>(y2 + read, b);
      if constexpr (Form::kAdded) load<kEach>(added + at, more);
#pragma unroll
      for (int k = 0; k < kEach; ++k) a[k] = mix_of<Form>(a[k], b[k], more[k], mixed[k]);
      store<kEach>(out + at, a);
    }
  }
}

}  // namespace scconv
