// Vectors of floats as the compiler's own type: one source for AVX-512, AVX2, SSE2 and NEON.
//
// Everything here is static: the file is compiled with other flags per instruction set, and a shared inline
// function would let the linker put AVX-512 code where an older CPU finds it. For the same reason nothing
// from the standard library is called in the inner loops.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define SCCONV_LANES 16
#elif defined(__AVX2__)
#define SCCONV_LANES 8
#else
#define SCCONV_LANES 4
#endif

namespace scconv {
namespace {

constexpr size_t kLanes = SCCONV_LANES;
typedef float Floats __attribute__((vector_size(4 * SCCONV_LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * SCCONV_LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * SCCONV_LANES)));

inline Floats all(float value) { return Floats{} + value; }

inline float as_float(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t as_bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

#if !defined(__F16C__)
inline float widen(Half half) {
  const uint32_t sign = static_cast<uint32_t>(half.bits & 0x8000u) << 16;
  const uint32_t rest = half.bits & 0x7fffu;
  if (rest >= 0x7c00u) return as_float(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  // Scaling by 2^112 moves the exponent's bias and turns subnormals into normal numbers, exactly.
  const float scaled = as_float(rest << 13) * as_float(0x77800000u);
  return as_float(sign | as_bits(scaled));
}

inline Half narrow(float value) {
  const uint32_t bits = as_bits(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return Half{static_cast<uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return Half{static_cast<uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {
    // Below 2^-14 a half's step is 2^-24, which is a float's step at 0.5: let the addition round.
    const uint32_t rounded = as_bits(as_float(magnitude) + 0.5f) - as_bits(0.5f);
    return Half{static_cast<uint16_t>(sign | rounded)};
  }
  const uint32_t to_even = 0xfffu + (magnitude >> 13 & 1u);
  return Half{static_cast<uint16_t>(sign | ((magnitude + to_even - 0x38000000u) >> 13))};
}
#endif

inline Floats load(const float* from) {
  Floats values;
  __builtin_memcpy(&values, from, sizeof values);
  return values;
}

inline void store(float* to, Floats values) { __builtin_memcpy(to, &values, sizeof values); }

inline Floats load(const Half* from) {
#if defined(__F16C__) && SCCONV_LANES == 16
  return reinterpret_cast<Floats>(
      _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif defined(__F16C__) && SCCONV_LANES == 8
  return reinterpret_cast<Floats>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#else
  Floats values;
  for (size_t i = 0; i < kLanes; ++i) values[i] = widen(from[i]);
  return values;
#endif
}

inline void store(Half* to, Floats values) {
#if defined(__F16C__) && SCCONV_LANES == 16
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm512_cvtps_ph(reinterpret_cast<__m512>(values), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__) && SCCONV_LANES == 8
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm256_cvtps_ph(reinterpret_cast<__m256>(values), _MM_FROUND_TO_NEAREST_INT));
#else
  for (size_t i = 0; i < kLanes; ++i) to[i] = narrow(values[i]);
#endif
}

// The first `count` < kLanes values; the others are zero.
template <typename T>
inline Floats load_some(const T* from, size_t count) {
  T padded[kLanes] = {};
  for (size_t i = 0; i < count; ++i) padded[i] = from[i];
  return load(padded);
}

template <typename T>
inline void store_some(T* to, Floats values, size_t count) {
  T padded[kLanes];
  store(padded, values);
  for (size_t i = 0; i < count; ++i) to[i] = padded[i];
}

// All bits set in the last `count` lanes.
inline Ints last(size_t count) {
  Ints lanes;
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = static_cast<int32_t>(i);
  return lanes >= static_cast<int32_t>(kLanes - count);
}

// The last count % kLanes of `count` values, and `filling` in the other lanes.
template <typename T>
inline Floats load_rest(const T* from, size_t count, Floats filling) {
  const size_t rest = count % kLanes;
  if (count >= kLanes) return last(rest) ? load(from + count - kLanes) : filling;
  T padded[kLanes] = {};
  for (size_t i = 0; i < rest; ++i) padded[kLanes - rest + i] = from[i];
  return last(rest) ? load(padded) : filling;
}

inline Floats lower(Floats a, Floats b) { return a < b ? a : b; }
inline Floats higher(Floats a, Floats b) { return a > b ? a : b; }

// Halves onto each other until one is left; unrolled, so that it stays in registers.
template <size_t kCount, typename Value, typename Join>
inline Value joined(const Value* values, const Join& join) {
  if constexpr (kCount == 1) {
    return values[0];
  } else {
    Value half[kCount / 2];
    for (size_t i = 0; i < kCount / 2; ++i) half[i] = join(values[i], values[i + kCount / 2]);
    return joined<kCount / 2>(half, join);
  }
}

// In double: the mean of few values must be better than a float where they hardly differ.
inline double total(Floats values) {
  double wide[kLanes];
  for (size_t i = 0; i < kLanes; ++i) wide[i] = values[i];
  return joined<kLanes>(wide, [](double a, double b) { return a + b; });
}

inline float lowest(Floats values) {
  float lanes[kLanes];
  store(lanes, values);
  return joined<kLanes>(lanes, [](float a, float b) { return a < b ? a : b; });
}

inline float highest(Floats values) {
  float lanes[kLanes];
  store(lanes, values);
  return joined<kLanes>(lanes, [](float a, float b) { return a > b ? a : b; });
}

// e^x to 2 units in the last place; 0 below the smallest normal float, NaN for NaN.
inline Floats exponential(Floats x) {
  constexpr float kLowest = -87.33f, kHighest = 88.72f;
  // x = n ln 2 + r with |r| <= ln(2)/2. Adding 1.5 * 2^23 leaves n in the lowest bits.
  const Floats magic = all(12582912.0f);
  const Floats clamped = x > kHighest ? all(kHighest) : x < kLowest ? all(kLowest) : x;
  const Floats shifted = clamped * 1.44269504f + magic;
  const Floats n = shifted - magic;
  const Floats r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  // (e^r - 1 - r) / r^2 by least squares at Chebyshev nodes: relative error of e^r 1.1e-8.
  Floats q = all(1.3933649752e-3f);
  q = q * r + 8.3631817251e-3f;
  q = q * r + 4.1666466743e-2f;
  q = q * r + 0.16666576266f;
  q = q * r + 0.5f;
  const Floats power = q * r * r + r + 1.0f;
  // 2^n in two halves, since 2^128 is no float where n = 128.
  const Ints whole = reinterpret_cast<Ints>(shifted) - 0x4b400000;
  const Ints half = whole >> 1;
  const Floats scale1 = reinterpret_cast<Floats>((half + 127) << 23);
  const Floats scale2 = reinterpret_cast<Floats>((whole - half + 127) << 23);
  const Floats result = power * scale1 * scale2;
  // The comparison is false for NaN, which goes through `power`.
  return x < kLowest ? Floats{} : result;
}

}  // namespace
}  // namespace scconv
