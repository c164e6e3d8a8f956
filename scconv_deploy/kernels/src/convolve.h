// Convolutions of stride 1 by tiles of output positions and channels that stay in registers while the inputs'
// channels go by: one load of weights serves all positions of a tile, one broadcast value all its channels.
//
// A tile is one or two segments of consecutive positions in a row, times one or two vectors of output
// channels: 2 x 7 x 2 sums of AVX-512's 32 registers, 2 x 3 x 2 of 16 registers. Segments of a tile need not
// be neighbours, so a plane 7 wide fills its tiles as well as one of 56.
#pragma once

#include "convolution.h"
#include "simd.h"

namespace scconv {
namespace {

#if SCCONV_LANES == 16
constexpr size_t kSegment = 7;
#else
constexpr size_t kSegment = 3;
#endif

inline Floats spread(float value) { return value - Floats{}; }

struct Place {
  size_t row;
  size_t column;
};

// kBlock channels in a block; S segments of P positions; V vectors of output channels.
template <size_t kBlock, size_t S, size_t P, size_t V>
class Tile {
 public:
  // Where the tile begins, and its first vector of output channels.
  Tile(const Place (&places)[S], size_t vector) : vector_(vector) {
    for (size_t s = 0; s < S; ++s) places_[s] = places[s];
  }

  void compute(const Convolution& work) {
    each([&](size_t, size_t, size_t v, Floats& sum) { sum = load(work.bias + channel(v)); });
    // One loop for all terms: with a second copy of its body, GCC keeps a sum on the stack.
    const bool is_whole = block(V - 1) < work.copied_from;
    for (size_t i = 0; i < kTerms; ++i) {
      if (i + 1 == kTerms && work.scale != nullptr) rescale(work);
      if (i + 1 < kTerms || is_whole) add<V>(i + 1 < kTerms ? work.first[i] : work.last);
    }
    if (!is_whole) end_with_copies(work);
    if (work.added != nullptr) {
      each([&](size_t s, size_t p, size_t v, Floats& sum) {
        sum += load(work.added + at(work.out_strides, s, p, v));
      });
    }
    if (work.relu) {
      // NaN < 0 is false: it passes, as through the runtime's own Relu.
      each([&](size_t, size_t, size_t, Floats& sum) { sum = sum < 0.0f ? Floats{} : sum; });
    }
    each([&](size_t s, size_t p, size_t v, Floats& sum) {
      store(work.out + at(work.out_strides, s, p, v), sum);
    });
  }

 private:
  static constexpr size_t kTerms = sizeof(Convolution::first) / sizeof(Term) + 1;
  static constexpr size_t kVectors = kBlock / kLanes;

  template <typename Function>
  inline __attribute__((always_inline)) void each(const Function& function) {
#pragma GCC unroll 2
    for (size_t s = 0; s < S; ++s) {
#pragma GCC unroll 8
      for (size_t p = 0; p < P; ++p) {
#pragma GCC unroll 2
        for (size_t v = 0; v < V; ++v) function(s, p, v, sums_[s][p][v]);
      }
    }
  }

  void rescale(const Convolution& work) {
    each([&](size_t, size_t, size_t v, Floats& sum) {
      sum = sum * load(work.scale + channel(v)) + load(work.offset + channel(v));
    });
  }

  // The last term for what is not copied, and the copy.
  void end_with_copies(const Convolution& work) {
    const size_t from = work.copied_from;
    if (V == 2 && block(0) < from) add<1>(work.last);
    const size_t before = from * work.copied_strides.block;
    each([&](size_t s, size_t p, size_t v, Floats& sum) {
      if (block(v) < from) return;
      sum +=
          load(work.copy_scale + channel(v)) * load(work.copied + at(work.copied_strides, s, p, v) - before);
    });
  }

  // To the sums of the first U vectors.
  template <size_t U>
  inline __attribute__((always_inline)) void add(const Term& term) {
    const float* weights[U];
    // The next tile of channels will want the weights this far on. They come from beyond L2 where a layer has
    // many, and fetched only when wanted they cost a deep layer a third of its time.
    const size_t ahead = (V / kVectors > 0 ? V / kVectors : 1) * term.weights_stride;
#pragma GCC unroll 2
    for (size_t v = 0; v < U; ++v) {
      weights[v] = term.weights + block(v) * term.weights_stride + (vector_ + v) % kVectors * kLanes;
    }
    for (size_t tap = 0; tap < term.kernel * term.kernel; ++tap) {
      const size_t y = tap / term.kernel, x = tap % term.kernel;
      const float* in[S];
#pragma GCC unroll 2
      for (size_t s = 0; s < S; ++s) {
        in[s] = term.in + (places_[s].row + y) * term.row_stride + (places_[s].column + x) * kBlock;
      }
      // Runs of channels that lie in one block.
      for (size_t c = 0; c < term.channels;) {
        const size_t lane = (term.first + c) % kBlock, left = term.channels - c;
        const size_t run = kBlock - lane < left ? kBlock - lane : left;
        const size_t from = (term.first + c) / kBlock * term.block_stride + lane;
        add_run<U>(in, from, weights, tap * term.tap_stride + c * kBlock, run, ahead);
        c += run;
      }
    }
  }

  template <size_t U>
  inline __attribute__((always_inline)) void add_run(const float* const (&in)[S], size_t from,
                                                     const float* const (&weights)[U], size_t at, size_t run,
                                                     size_t ahead) {
    const float* x[S];
#pragma GCC unroll 2
    for (size_t s = 0; s < S; ++s) x[s] = in[s] + from;
    const float* w[U];
#pragma GCC unroll 2
    for (size_t v = 0; v < U; ++v) w[v] = weights[v] + at;
    for (size_t c = 0; c < run; ++c) {
      Floats loaded[U];
#pragma GCC unroll 2
      for (size_t v = 0; v < U; ++v) {
        loaded[v] = load(w[v] + c * kBlock);
        __builtin_prefetch(w[v] + c * kBlock + ahead, 0, 2);
      }
#pragma GCC unroll 2
      for (size_t s = 0; s < S; ++s) {
#pragma GCC unroll 8
        for (size_t p = 0; p < P; ++p) {
          const Floats value = spread(x[s][p * kBlock + c]);
#pragma GCC unroll 2
          for (size_t v = 0; v < U; ++v) sums_[s][p][v] += value * loaded[v];
        }
      }
    }
  }

  size_t block(size_t v) const { return (vector_ + v) / kVectors; }
  size_t channel(size_t v) const { return (vector_ + v) * kLanes; }

  size_t at(const Strides& strides, size_t s, size_t p, size_t v) const {
    return block(v) * strides.block + places_[s].row * strides.row +
           (places_[s].column + p) * strides.position + (vector_ + v) % kVectors * kLanes;
  }

  Place places_[S];
  size_t vector_;
  Floats sums_[S][P][V];
};

// The segments of P positions that begin at column `start` in every row, `per_row` in each, two by two.
template <size_t kBlock, size_t P, size_t V>
void convolve_segments(const Convolution& work, size_t vector, const Region& region, size_t per_row,
                       size_t start) {
  const auto place = [=](size_t i) { return Place{region.first_row + i / per_row, start + i % per_row * P}; };
  const size_t count = region.rows * per_row;
  size_t i = 0;
  for (; i + 2 <= count; i += 2) Tile<kBlock, 2, P, V>({place(i), place(i + 1)}, vector).compute(work);
  if (i < count) Tile<kBlock, 1, P, V>({place(i)}, vector).compute(work);
}

// The last `rest` < kSegment positions of every row.
template <size_t kBlock, size_t V, size_t P = kSegment - 1>
void convolve_rest(const Convolution& work, size_t vector, const Region& region, size_t rest) {
  if constexpr (P > 0) {
    if (rest == P) return convolve_segments<kBlock, P, V>(work, vector, region, 1, region.width - rest);
    convolve_rest<kBlock, V, P - 1>(work, vector, region, rest);
  }
}

template <size_t kBlock, size_t V>
void convolve_vectors(const Convolution& work, size_t vector, const Region& region) {
  const size_t per_row = region.width / kSegment, rest = region.width % kSegment;
  if (per_row > 0) convolve_segments<kBlock, kSegment, V>(work, vector, region, per_row, 0);
  if (rest > 0) convolve_rest<kBlock, V>(work, vector, region, rest);
}

template <size_t kBlock>
void convolve(const Convolution& work, const Region& region) {
  constexpr size_t kVectors = kBlock / kLanes;
  const size_t end = (region.first_block + region.blocks) * kVectors;
  size_t vector = region.first_block * kVectors;
  for (; vector + 2 <= end; vector += 2) convolve_vectors<kBlock, 2>(work, vector, region);
  if (vector < end) convolve_vectors<kBlock, 1>(work, vector, region);
}

}  // namespace
}  // namespace scconv
