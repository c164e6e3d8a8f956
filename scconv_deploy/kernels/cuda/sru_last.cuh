// SRU on (N, H, W, C), channels last, in one kernel: the layout in which TensorRT's convolutions work.
//
// A block takes a bundle of whole groups, channels [from, from + width) and the same ones of the second half.
// A thread stays with kEach neighbouring channels of both halves (a column) and walks over positions (rows).
// The launch must see to it that width is a multiple of kEach and of the channels per group, that
// C % (2 * groups) == 0 and C/2 % kEach == 0, and that width <= kWidest and width / kEach <= kSruThreads.
#pragma once

#include "sru_planar.cuh"

namespace scconv {

constexpr int kWidest = 512;
constexpr int kRowsTogether = 4;

// Per channel of both halves of a bundle. Channels share a pivot with their group.
struct Bundle {
  float mean[2 * kWidest];
  float m2[2 * kWidest];
  Norm norm[2 * kWidest];  // of every group: as many as channels where a group is one channel
};

template <int kEach>
struct Column {
  float count;
  float mean[2 * kEach];
  float m2[2 * kEach];

  __device__ __forceinline__ void absorb(float counted, const float* means, const float* squares) {
    if (counted == 0.0f) return;
    const float whole = count + counted, share = __fdividef(counted, whole);
#pragma unroll
    for (int j = 0; j < 2 * kEach; ++j) {
      const float delta = means[j] - mean[j];
      mean[j] += delta * share;
      m2[j] += squares[j] + delta * delta * count * share;
    }
    count = whole;
  }
};

// x at the thread's first channel of the first half; `half` and `channels` are strides.
template <int kEach, int kRows, typename T>
__device__ __forceinline__ void absorb_rows(Column<kEach>& column, const T* x, int half, long long stride,
                                            const float* pivot) {
  float values[kRows][2 * kEach], mean[2 * kEach], m2[2 * kEach];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    load<kEach>(x + r * stride, values[r]);
    load<kEach>(x + r * stride + half, values[r] + kEach);
  }
#pragma unroll
  for (int j = 0; j < 2 * kEach; ++j) {
    float of_one[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) of_one[r] = values[r][j] - pivot[j];
    const Moments found = moments_of<kRows>(of_one);
    mean[j] = found.mean;
    m2[j] = found.m2;
  }
  column.absorb(static_cast<float>(kRows), mean, m2);
}

// Merges the rows of every column into row 0. All threads call it; those of no row have count 0.
template <int kEach>
__device__ __forceinline__ void merge_rows(Column<kEach>& column, int row, int rows, int columns) {
  __shared__ Column<kEach> upper[kSruThreads / 2 + 1];
  const int place = threadIdx.x % columns;
  while (rows > 1) {
    const int kept = (rows + 1) / 2;
    if (row >= kept && row < rows) upper[(row - kept) * columns + place] = column;
    __syncthreads();
    if (row + kept < rows) {
      const Column<kEach>& other = upper[row * columns + place];
      column.absorb(other.count, other.mean, other.m2);
    }
    __syncthreads();
    rows = kept;
  }
}

// One warp per group: channels have equal counts, so the group's mean is the mean of theirs.
template <typename Form, typename T>
__device__ __forceinline__ void merge_channels(Bundle& bundle, const T* sample, int from, int width, int half,
                                               int per_group, int plane, float epsilon) {
  const int lane = threadIdx.x % kWarp, groups = width / per_group;
  for (int group = threadIdx.x / kWarp; group < 2 * groups; group += blockDim.x / kWarp) {
    const int start = group * per_group;  // among the bundle's channels: the first half, then the second
    float sum = 0.0f;
    for (int c = lane; c < per_group; c += kWarp) sum += bundle.mean[start + c];
    Moments all;
    all.count = static_cast<float>(plane) * static_cast<float>(per_group);
    all.mean = warp_sum(sum) / static_cast<float>(per_group);
    float squares = 0.0f;
    for (int c = lane; c < per_group; c += kWarp) {
      const float off = bundle.mean[start + c] - all.mean;
      squares += bundle.m2[start + c] + static_cast<float>(plane) * off * off;
    }
    all.m2 = warp_sum(squares);
    const int channel = group < groups ? from + start : from + half + start - width;
    if (lane == 0) bundle.norm[group] = norm_of<Form>(all, widen(sample[channel]), epsilon);
  }
}

// Grid: N * ceil(C / 2 / width) blocks. x (N, H, W, C); y_a, y_b (N, H, W, C/2), or with kWhole the halves of one
// y (N, H, W, C).
template <typename Form, bool kWhole, int kEach, typename T>
__device__ __forceinline__ void sru_last(const T* x, SruConstants constants, int channels, int plane, int groups,
                                         int widest, T* y_a, T* y_b) {
  __shared__ Bundle bundle;
  const int half = channels / 2, bundles = (half + widest - 1) / widest, per_group = channels / groups;
  const int from = blockIdx.x % bundles * widest, width = half - from < widest ? half - from : widest;
  const long long sample = blockIdx.x / bundles;
  x += sample * plane * channels;
  const int columns = width / kEach, rows = blockDim.x / columns, row = threadIdx.x / columns;
  const int place = threadIdx.x % columns * kEach, first = from + place;
  float pivot[2 * kEach];
#pragma unroll
  for (int j = 0; j < kEach; ++j) {
    pivot[j] = widen(x[(first + j) / per_group * per_group]);
    pivot[kEach + j] = widen(x[(first + j) / per_group * per_group + half]);
  }
  Column<kEach> column{};
  const T* at = x + first;
  int p = row < rows ? row : plane;
  for (; p + (kRowsTogether - 1) * rows < plane; p += kRowsTogether * rows) {
    absorb_rows<kEach, kRowsTogether>(column, at + static_cast<long long>(p) * channels, half,
                                      static_cast<long long>(rows) * channels, pivot);
  }
  for (; p < plane; p += rows) {
    absorb_rows<kEach, 1>(column, at + static_cast<long long>(p) * channels, half, 0, pivot);
  }
  merge_rows(column, row, rows, columns);
  if (row == 0) {
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      bundle.mean[place + j] = column.mean[j];
      bundle.m2[place + j] = column.m2[j];
      bundle.mean[width + place + j] = column.mean[kEach + j];
      bundle.m2[width + place + j] = column.m2[kEach + j];
    }
  }
  __syncthreads();
  merge_channels<Form>(bundle, x, from, width, half, per_group, plane, constants.epsilon);
  __syncthreads();
  Channel at_a[kEach], at_b[kEach];
#pragma unroll
  for (int j = 0; j < kEach; ++j) {
    at_a[j] = channel_of<Form>(constants, bundle.norm[(place + j) / per_group], first + j);
    at_b[j] = channel_of<Form>(constants, bundle.norm[(width + place + j) / per_group], half + first + j);
  }
  const int stride = kWhole ? channels : half;
  if constexpr (kWhole) y_b = y_a + half;
  const long long to = sample * plane * stride + first;
  for (p = row < rows ? row : plane; p < plane; p += rows) {
    float a[kEach], b[kEach];
    load<kEach>(at + static_cast<long long>(p) * channels, a);
    load<kEach>(at + static_cast<long long>(p) * channels + half, b);
#pragma unroll
    for (int j = 0; j < kEach; ++j) halves<Form>(a[j], b[j], at_a[j], at_b[j], constants.logit);
    store<kEach>(y_a + to + static_cast<long long>(p) * stride, a);
    store<kEach>(y_b + to + static_cast<long long>(p) * stride, b);
  }
}

}  // namespace scconv
