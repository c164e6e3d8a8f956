// bfloat16 as stored, beside the types of ../src/simd.h; arithmetic is done in float.
#pragma once

#include "simd.h"

namespace scconv {

struct BFloat {
  uint16_t bits;
};

// Not in an unnamed namespace: the templates of simd.h find these by their argument.
static inline Floats load(const BFloat* from) {
  typedef uint16_t Stored __attribute__((vector_size(2 * SCCONV_LANES)));
  Stored stored;
  __builtin_memcpy(&stored, from, sizeof stored);
  return reinterpret_cast<Floats>(__builtin_convertvector(stored, Words) << 16);
}

// To nearest, ties to even; a NaN stays one.
static inline void store(BFloat* to, Floats values) {
#if defined(__AVX512BF16__) && SCCONV_LANES == 16
  // One instruction; it takes what is below 1.2e-38 for 0.
  const auto converted = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(values));
  __builtin_memcpy(to, &converted, sizeof converted);
#else
  typedef uint16_t Stored __attribute__((vector_size(2 * SCCONV_LANES)));
  const Words bits = reinterpret_cast<Words>(values);
  const Words rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  const Words kept = values == values ? rounded : (bits >> 16 | 0x40u);
  const Stored stored = __builtin_convertvector(kept, Stored);
  __builtin_memcpy(to, &stored, sizeof stored);
#endif
}

}  // namespace scconv
