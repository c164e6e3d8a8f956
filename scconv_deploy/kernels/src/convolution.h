// A sum of convolutions over scratch memory: what code that is compiled once (block.cpp) tells the loops of
// convolve.h, compiled once per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace scconv {

// kernel x kernel taps of stride 1 over some channels of an input in blocks: position after position of
// `block` channels. Where kernel > 1, the positions around the plane must be there, and hold zeros.
struct Term {
  const float* in;      // block 0 at the first tap of output position (0, 0)
  size_t row_stride;    // floats from a position to the one below it
  size_t block_stride;  // floats from a block of channels to the next
  size_t kernel;
  size_t first;  // channels [first, first + channels) are read; any, not only whole blocks
  size_t channels;
  const float* weights;   // of output block 0, tap 0 and channel `first`: channels, `block` outputs each
  size_t tap_stride;      // floats from a tap's weights to the next tap's
  size_t weights_stride;  // floats from an output block's weights to the next block's
};

// Where the values of a position and an output block lie. In blocks, position is the block; where channels
// are the last axis, it is their number, and block_stride is the block.
struct Strides {
  size_t position;
  size_t row;
  size_t block;
};

// out = [scale *] (bias + first terms) [+ offset] + last terms [+ added], then ReLU. From output block
// `copied_from` on, copy_scale * copied (channel for channel, from block 0 on) takes the place of `last`.
// Of the terms, those with no channels are left out.
struct Convolution {
  const float* bias;  // per output channel, as are scale, offset and copy_scale
  Term first[3];
  const float* scale;  // null: neither scale nor offset
  const float* offset;
  Term last;
  size_t copied_from = SIZE_MAX;
  const float* copied;
  const float* copy_scale;
  Strides copied_strides;
  const float* added;  // null: nothing; in out's strides
  bool relu;
  float* out;
  Strides out_strides;
};

// What of the output is made: whole blocks of channels, whole rows of `width` positions.
struct Region {
  size_t first_block;
  size_t blocks;
  size_t first_row;
  size_t rows;
  size_t width;
};

using ConvolveFunction = void (*)(const Convolution& work, const Region& region);

}  // namespace scconv
