// AMX's tiles in plain C++, for the sanitizers: they do not see what the instructions read and write, and see this.
// Included before tiles.h, whose intrinsics are macros.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace soft_tiles {

struct Tile {
  unsigned char rows[16][64];
};

inline Tile& tile(int index) {
  static thread_local Tile tiles[8];
  return tiles[index];
}

// Not memcpy: each value is read by an instruction of its own, which every sanitizer checks.
inline void load(int index, const void* from, size_t stride) {
  for (size_t row = 0; row < 16; ++row) {
    const auto* values = reinterpret_cast<const uint16_t*>(static_cast<const char*>(from) + row * stride);
    for (size_t i = 0; i < 32; ++i) std::memcpy(&tile(index).rows[row][2 * i], &values[i], 2);
  }
}

inline void store(int index, void* to, size_t stride) {
  for (size_t row = 0; row < 16; ++row) {
    auto* values = reinterpret_cast<float*>(static_cast<char*>(to) + row * stride);
    for (size_t i = 0; i < 16; ++i) std::memcpy(&values[i], &tile(index).rows[row][4 * i], 4);
  }
}

inline float widened(const unsigned char* at) {
  uint16_t stored;
  std::memcpy(&stored, at, 2);
  const uint32_t bits = static_cast<uint32_t>(stored) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Sums of products of pairs: a row of `a` holds 32 values, a row of `b` a pair of values for each of 16 columns.
inline void multiply(int sums, int a, int b) {
  for (size_t row = 0; row < 16; ++row) {
    for (size_t column = 0; column < 16; ++column) {
      float sum;
      std::memcpy(&sum, &tile(sums).rows[row][4 * column], 4);
      for (size_t i = 0; i < 32; ++i) {
        sum += widened(&tile(a).rows[row][2 * i]) * widened(&tile(b).rows[i / 2][4 * column + 2 * (i % 2)]);
      }
      std::memcpy(&tile(sums).rows[row][4 * column], &sum, 4);
    }
  }
}

}  // namespace soft_tiles

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(form) static_cast<void>(form)
#define _tile_release() static_cast<void>(0)
#define _tile_zero(index) std::memset(&soft_tiles::tile(index), 0, sizeof(soft_tiles::Tile))
#define _tile_loadd(index, from, stride) soft_tiles::load(index, from, stride)
#define _tile_stored(index, to, stride) soft_tiles::store(index, to, stride)
#define _tile_dpbf16ps(sums, a, b) soft_tiles::multiply(sums, a, b)
