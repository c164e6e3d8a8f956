// What differs between a GPU and the CPU that emulates one: conversions of half precision, in PTX here.
#pragma once

namespace scconv {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

struct Brain;
template <typename T>
constexpr bool is_brain = false;
template <>
constexpr bool is_brain<Brain> = true;

#ifndef SCCONV_EMULATED
__device__ __forceinline__ float half_to_float(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ __forceinline__ unsigned short float_to_half(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ unsigned short float_to_brain(float value) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
#endif

}  // namespace scconv
