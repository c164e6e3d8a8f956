// Stored numbers <-> floats, several at once; and statistics that can be merged. All arithmetic is in float.
// Written for NVRTC without any header of CUDA; tests/kernels/cuda/emulation.h makes it run on a CPU.
#pragma once

namespace scconv {

struct Half {
  unsigned short bits;
};
struct Brain {
  unsigned short bits;
};

__device__ __forceinline__ float widen(Half x) { return half_to_float(x.bits); }
__device__ __forceinline__ float widen(Brain x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}
__device__ __forceinline__ float widen(float x) { return x; }

template <typename T>
__device__ __forceinline__ T narrow(float x) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return x;
  } else if constexpr (is_brain<T>) {
    return T{float_to_brain(x)};
  } else {
    return T{float_to_half(x)};
  }
}

// 2, 4, 8 or 16 bytes, which the compiler moves with one instruction.
template <int kWords>
struct alignas(4 * kWords) Words {
  unsigned word[kWords];
};

template <int kCount, typename T>
__device__ __forceinline__ void load(const T* from, float* values) {
  if constexpr (kCount == 1) {
    values[0] = widen(*from);
  } else {
    constexpr int kWords = kCount * static_cast<int>(sizeof(T)) / 4;
    const Words<kWords> words = *reinterpret_cast<const Words<kWords>*>(from);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if constexpr (sizeof(T) == 4) {
        values[i] = __uint_as_float(words.word[i]);
      } else {
        const unsigned pair = words.word[i / 2];
        values[i] = widen(T{static_cast<unsigned short>(i % 2 ? pair >> 16 : pair & 0xffffu)});
      }
    }
  }
}

template <int kCount, typename T>
__device__ __forceinline__ void store(T* to, const float* values) {
  if constexpr (kCount == 1) {
    *to = narrow<T>(values[0]);
  } else {
    constexpr int kWords = kCount * static_cast<int>(sizeof(T)) / 4;
    Words<kWords> words;
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if constexpr (sizeof(T) == 4) {
        words.word[i] = __float_as_uint(values[i]);
      } else {
        const unsigned low = narrow<T>(values[2 * i]).bits, high = narrow<T>(values[2 * i + 1]).bits;
        words.word[i] = low | high << 16;
      }
    }
    *reinterpret_cast<Words<kWords>*>(to) = words;
  }
}

// Whether loads and stores of `bytes` at once are allowed from this address on.
__device__ __forceinline__ bool is_aligned(const void* address, unsigned bytes) {
  return reinterpret_cast<unsigned long long>(address) % bytes == 0;
}

// Of `count` values less a pivot that all parties share: their mean, and the sum of squared distances from it.
// With a pivot from among the values, a mean far from zero takes no digits from the distances.
struct Moments {
  float count;
  float mean;
  float m2;
};

__device__ __forceinline__ void merge(Moments& into, const Moments& other) {
  if (other.count == 0.0f) return;
  const float count = into.count + other.count;
  const float share = __fdividef(other.count, count);
  const float delta = other.mean - into.mean;
  into.mean += delta * share;
  into.m2 += other.m2 + delta * delta * into.count * share;
  into.count = count;
}

template <int kCount>
__device__ __forceinline__ Moments moments_of(const float* values) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kCount; ++i) sum += values[i];
  Moments found{static_cast<float>(kCount), sum * (1.0f / kCount), 0.0f};
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float distance = values[i] - found.mean;
    found.m2 += distance * distance;
  }
  return found;
}

__device__ __forceinline__ float warp_sum(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

__device__ __forceinline__ float warp_maximum(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, step));
  }
  return value;
}

}  // namespace scconv
