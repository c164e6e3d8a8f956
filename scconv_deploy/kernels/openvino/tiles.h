// 32 columns of a product at a time: rows of positions times packed weights, summed in float.
//
// A convolution over (H, W, C) is such a product: for one kernel line, the kernel * C values that a position needs
// lie in one run, and the next position's run begins C values later. `pitch` is from one kernel line to the next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bfloat.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__AVX512BF16__) && defined(__linux__)
#define SCCONV_AMX 1
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace scconv {
namespace {

constexpr size_t kColumns = 32;

// Consecutive steps through one run of values whose weights are not all zero.
struct Segment {
  uint32_t line, first, steps;
};

template <typename T>
struct Panel {
  const T* weights;
  const Segment* segments;
  size_t count;
};

// How values of type T are multiplied: two stretches of kStretch positions, each `stride` values after the one
// before, by kColumns channels; kStep values of a run at a time. `sums` is (2 * kStretch, kColumns).
template <typename T>
struct Tiles {
  static constexpr bool kHere = false;
  static constexpr size_t kStretch = 16, kStep = 32;
  struct Session {};
  template <typename Value>
  static void pack(std::vector<T>&, const Value&) {}
  template <bool kBoth>
  static void multiply(const T*, const T*, size_t, size_t, const Panel<T>&, float*) {}
  static bool allowed() { return false; }
};

#if defined(SCCONV_AMX)
template <>
struct Tiles<BFloat> {
  static constexpr bool kHere = true;
  static constexpr size_t kStretch = 16, kStep = 32;

  // The tiles belong to a thread while it multiplies: 0 to 3 are sums, 4 and 5 positions, 6 and 7 weights.
  struct Session {
    Session() {
      alignas(64) static const struct {
        uint8_t palette = 1, start = 0, reserved[14] = {};
        uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
      } kForm;
      _tile_loadconfig(&kForm);
    }
    ~Session() { _tile_release(); }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
  };

  // Linux gives a process the tiles when it asks; OpenVINO asks too.
  static bool allowed() {
    constexpr long kAskFor = 0x1023, kTileData = 18;
    static const bool given = syscall(SYS_arch_prctl, kAskFor, kTileData) == 0;
    return given;
  }

  // Pairs of values beside each other, as the instruction takes them; value(column, index) of one step.
  template <typename Value>
  static void pack(std::vector<BFloat>& into, const Value& value) {
    for (size_t half = 0; half < kColumns; half += 16) {
      for (size_t pair = 0; pair < kStep; pair += 2) {
        for (size_t column = half; column < half + 16; ++column) {
          into.push_back(value(column, pair));
          into.push_back(value(column, pair + 1));
        }
      }
    }
  }

  // Four sums: 16 positions by 16 columns each. Without kBoth, of the first stretch alone.
  template <bool kBoth>
  static void multiply(const BFloat* rows, const BFloat* others, size_t stride, size_t pitch,
                       const Panel<BFloat>& panel, float* sums) {
    const size_t bytes = stride * sizeof(BFloat);
    const BFloat* weights = panel.weights;
    // The compiler does not know that tiles are read from memory.
    asm volatile("" ::: "memory");
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t i = 0; i < panel.count; ++i) {
      const Segment& segment = panel.segments[i];
      const size_t first = segment.line * pitch + segment.first;
      const BFloat *from = rows + first, *from_others = others + first;
      for (size_t step = 0; step < segment.steps; ++step) {
        _tile_loadd(4, from, bytes);
        _tile_loadd(6, weights, 64);
        _tile_loadd(7, weights + 512, 64);
        if constexpr (kBoth) _tile_loadd(5, from_others, bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if constexpr (kBoth) _tile_dpbf16ps(2, 5, 6);
        if constexpr (kBoth) _tile_dpbf16ps(3, 5, 7);
        from += kStep;
        from_others += kStep;
        weights += kStep * kColumns;
      }
    }
    _tile_stored(0, sums, 4 * kColumns);
    _tile_stored(1, sums + 16, 4 * kColumns);
    if constexpr (kBoth) _tile_stored(2, sums + 16 * kColumns, 4 * kColumns);
    if constexpr (kBoth) _tile_stored(3, sums + 16 * kColumns + 16, 4 * kColumns);
    asm volatile("" ::: "memory");
  }
};
#endif

#if SCCONV_LANES == 16
template <>
struct Tiles<float> {
  static constexpr bool kHere = true;
  // 7 divides the widths of the usual images; 28 sums, two vectors of weights and one value fit the registers.
  static constexpr size_t kStretch = 7, kStep = 1;
  struct Session {
    Session() {}
  };
  static bool allowed() { return true; }

  template <typename Value>
  static void pack(std::vector<float>& into, const Value& value) {
    for (size_t column = 0; column < kColumns; ++column) into.push_back(value(column, 0));
  }

  template <bool kBoth>
  static void multiply(const float* rows, const float* others, size_t stride, size_t pitch,
                       const Panel<float>& panel, float* sums) {
    constexpr size_t kCount = kBoth ? 2 * kStretch : kStretch;
    const float* weights = panel.weights;
    Floats left[kCount] = {}, right[kCount] = {};
    for (size_t i = 0; i < panel.count; ++i) {
      const Segment& segment = panel.segments[i];
      const size_t first = segment.line * pitch + segment.first;
      const float *from = rows + first, *from_others = others + first;
      for (size_t step = 0; step < segment.steps; ++step) {
        const Floats a = load(weights), b = load(weights + kLanes);
#pragma GCC unroll 14
        for (size_t row = 0; row < kCount; ++row) {
          const float* const at = row < kStretch ? from + row * stride : from_others + (row - kStretch) * stride;
          // Broadcast on the way from memory; all() adds zero first, on a port that multiplies.
          const Floats x = reinterpret_cast<Floats>(_mm512_set1_ps(*at));
          left[row] += x * a;
          right[row] += x * b;
        }
        ++from;
        ++from_others;
        weights += kColumns;
      }
    }
    for (size_t row = 0; row < kCount; ++row) {
      store(sums + row * kColumns, left[row]);
      store(sums + row * kColumns + kLanes, right[row]);
    }
  }
};
#endif

// The weights of a convolution, (columns, channels, kernel, kernel), packed; `columns` is a multiple of 16.
template <typename T>
class Panels {
 public:
  Panels(const T* weights, size_t columns, size_t channels, size_t kernel)
      : columns_(columns), run_(kernel * channels) {
    const auto weight = [&](size_t column, size_t line, size_t at) {
      const size_t x = at / channels, channel = at % channels;
      if (column >= columns || x >= kernel) return T{};
      return weights[((column * channels + channel) * kernel + line) * kernel + x];
    };
    for (size_t first = 0; first < columns; first += kColumns) {
      begins_.push_back({values_.size(), segments_.size()});
      for (size_t line = 0; line < kernel; ++line) add_line(line, [&](size_t column, size_t at) {
        return weight(first + column, line, at);
      });
    }
    begins_.push_back({values_.size(), segments_.size()});
    // Tiles of weights are read line of cache by line.
    const size_t count = values_.size();
    values_.resize(count + 64 / sizeof(T));
    offset_ = (64 - reinterpret_cast<uintptr_t>(values_.data()) % 64) % 64 / sizeof(T);
    __builtin_memmove(values_.data() + offset_, values_.data(), count * sizeof(T));
  }
  Panels(const Panels&) = delete;
  Panels& operator=(const Panels&) = delete;

  size_t count() const { return begins_.size() - 1; }
  size_t columns() const { return columns_; }
  size_t bytes() const { return values_.size() * sizeof(T); }
  // Fetches one of `parts` parts into this core's cache.
  void fetch(size_t part, size_t parts) const {
    const char* const from = reinterpret_cast<const char*>(values_.data());
    const size_t end = bytes() * (part + 1) / parts;
    for (size_t i = bytes() * part / parts; i < end; i += 64) __builtin_prefetch(from + i, 0, 2);
  }
  Panel<T> operator[](size_t index) const {
    return {values_.data() + offset_ + begins_[index].value, segments_.data() + begins_[index].segment,
            begins_[index + 1].segment - begins_[index].segment};
  }

 private:
  struct Begin {
    size_t value, segment;
  };

  // Steps of which every weight is zero are left out: a grouped convolution stored as a dense one has many.
  template <typename Value>
  void add_line(size_t line, const Value& value) {
    bool goes_on = false;
    constexpr size_t kStep = Tiles<T>::kStep;
    for (size_t first = 0; first < run_; first += kStep) {
      bool any = false;
      for (size_t column = 0; column < kColumns && !any; ++column) {
        for (size_t i = 0; i < kStep && !any; ++i) any = !is_zero(value(column, first + i));
      }
      if (any) {
        Tiles<T>::pack(values_, [&](size_t column, size_t i) { return value(column, first + i); });
        if (goes_on) {
          ++segments_.back().steps;
        } else {
          segments_.push_back({static_cast<uint32_t>(line), static_cast<uint32_t>(first), 1});
        }
      }
      goes_on = any;
    }
  }

  static bool is_zero(float value) { return value == 0.0f; }
  static bool is_zero(BFloat value) { return (value.bits & 0x7fffu) == 0; }

  size_t columns_, run_, offset_ = 0;
  std::vector<T> values_;
  std::vector<Segment> segments_;
  std::vector<Begin> begins_;
};

}  // namespace
}  // namespace scconv
