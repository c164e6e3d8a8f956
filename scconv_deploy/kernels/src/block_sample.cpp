#include "block_sample.h"

#include <cmath>
#include <cstring>

namespace scconv {
namespace {

// Values of x in a stripe: 64 KiB, which leave room for weights in L2.
constexpr size_t kStripe = 16384;
// Output blocks that are made together: as many as the loops' tiles hold.
constexpr size_t kChunk = 2;
constexpr size_t kLargestBlock = 16;

size_t larger(size_t a, size_t b) { return a > b ? a : b; }

size_t parts(size_t whole, size_t part) { return (whole + part - 1) / part; }

}  // namespace

BlockSample::BlockSample(const Block& block, const Kernels& kernels)
    : block_(block),
      kernels_(kernels),
      blocked_(*kernels.blocked(block.sru.block)),
      b_(block.sru.block),
      plane_(block.height * block.width),
      border_(block.kernel / 2),
      wide_(block.width + 2 * border_),
      padded_((block.height + 2 * border_) * wide_),
      taps_(block.kernel * block.kernel),
      per_group_(block.outputs / block.groups / b_),
      own_(block.up / block.groups),
      chunks_per_group_(parts(per_group_, kChunk)),
      rows_(larger(1, kStripe / (block.sru.channels * block.width))),
      stripes_(parts(block.height, rows_)),
      up_size_(block.up * padded_),
      low_size_(block.low * plane_),
      folded_size_(block.copied_from * block.low),
      sums_size_(larger(taps_ * block.up + block.low, 2 * block.outputs)),
      means_size_(taps_ * block.up + block.low),
      // Products in double against three passes over y1 and y2, as measured.
      prefers_sums_(taps_ * own_ + block.up + block.low < plane_ + plane_ / 2) {}

Workspace BlockSample::workspace(float* floats, double* doubles) const {
  Workspace space;
  space.up = floats;
  space.low = space.up + up_size_;
  space.folded = space.low + low_size_;
  space.weights = space.folded + folded_size_;
  space.sums = doubles;
  space.means = space.sums + stripes_ * sums_size_;
  return space;
}

void BlockSample::squeeze(const Workspace& space, size_t stripe, const float* tile) const {
  const size_t inputs = block_.sru.channels, first = first_row(stripe), count = rows(stripe);
  Term term{tile, block_.width * b_,    count * block_.width * b_, 1, 0, block_.up_inputs, block_.squeeze_up,
            0,    block_.up_inputs * b_};
  Convolution work{};
  work.bias = block_.squeeze_up_bias;
  work.first[0] = term;
  work.out = space.up + ((first + border_) * wide_ + border_) * b_;
  work.out_strides = {b_, wide_ * b_, padded_ * b_};
  blocked_.convolve(work, {0, block_.up / b_, 0, count, block_.width});
  term.first = block_.up_inputs;
  term.channels = inputs - block_.up_inputs;
  term.weights = block_.squeeze_low;
  term.weights_stride = term.channels * b_;
  work.bias = block_.squeeze_low_bias;
  work.first[0] = term;
  work.out = space.low + first * block_.width * b_;
  work.out_strides = plane_strides();
  blocked_.convolve(work, {0, block_.low / b_, 0, count, block_.width});
  pad(space.up, stripe);
  if (prefers_sums_) sum_inputs(space, stripe);
}

// Zeros around the rows of a stripe; the memory held another layer's values.
void BlockSample::pad(float* up, size_t stripe) const {
  if (border_ == 0) return;
  const auto clear = [](float* from, size_t count) { std::memset(from, 0, count * sizeof(float)); };
  const size_t first = first_row(stripe) + border_, end = first + rows(stripe);
  for (size_t block = 0; block < block_.up / b_; ++block) {
    float* plane = up + block * padded_ * b_;
    if (stripe == 0) clear(plane, border_ * wide_ * b_);
    for (size_t row = first; row < end; ++row) {
      clear(plane + row * wide_ * b_, border_ * b_);
      clear(plane + ((row + 1) * wide_ - border_) * b_, border_ * b_);
    }
    if (stripe + 1 == stripes_) clear(plane + end * wide_ * b_, border_ * wide_ * b_);
  }
}

// What each column of taps sees of a row of one block: the row's sum, less the columns that it passes over.
void BlockSample::sum_row(const float* row, double* seen) const {
  double whole[kLargestBlock];
  blocked_.sums(row, block_.width, whole);
  for (size_t x = 0; x < block_.kernel; ++x) {
    const size_t off = x < border_ ? border_ - x : x - border_;
    const size_t passed = off < block_.width ? off : block_.width;
    const float* from = row + (x < border_ ? block_.width - passed : 0) * b_;
    double* to = seen + x * b_;
    std::memcpy(to, whole, b_ * sizeof(double));
    for (size_t i = 0; i < passed * b_; ++i) to[i % b_] -= from[i];
  }
}

void BlockSample::sum_inputs(const Workspace& space, size_t stripe) const {
  double* sums = space.sums + stripe * sums_size_;
  std::memset(sums, 0, taps_ * block_.up * sizeof(double));
  const size_t first = first_row(stripe), count = rows(stripe);
  for (size_t row = first; row < first + count; ++row) {
    for (size_t channel = 0; channel < block_.up; channel += b_) {
      double seen[kLargestKernel * kLargestBlock];
      sum_row(space.up + channel * padded_ + ((row + border_) * wide_ + border_) * b_, seen);
      for (size_t y = 0; y < block_.kernel; ++y) {
        // The output that tap y of this row goes to.
        if (row + border_ < y || row + border_ - y >= block_.height) continue;
        for (size_t x = 0; x < block_.kernel; ++x) {
          double* to = sums + (y * block_.kernel + x) * block_.up + channel;
          for (size_t lane = 0; lane < b_; ++lane) to[lane] += seen[x * b_ + lane];
        }
      }
    }
  }
  double* low = sums + taps_ * block_.up;
  for (size_t channel = 0; channel < block_.low; channel += b_) {
    const float* from = space.low + channel * plane_ + first * block_.width * b_;
    blocked_.sums(from, count * block_.width, low + channel);
  }
}

bool BlockSample::weigh_by_linearity(const Workspace& space) const {
  bool is_finite = true;
  for (size_t i = 0; i < means_size_; ++i) {
    double sum = 0.0;
    for (size_t stripe = 0; stripe < stripes_; ++stripe) sum += space.sums[stripe * sums_size_ + i];
    space.means[i] = sum / static_cast<double>(plane_);
    is_finite = is_finite && std::isfinite(sum);
  }
  if (!is_finite) return false;
  const double* low = space.means + taps_ * block_.up;
  const double* centre = space.means + taps_ / 2 * block_.up;
  double* first = space.means + means_size_;
  double* second = first + block_.outputs;
  for (size_t block = 0; block < block_.outputs / b_; ++block) {
    const size_t channel = block * b_, own = block / per_group_ * own_;
    for (size_t i = 0; i < b_; ++i) first[channel + i] = block_.y1_bias[channel + i];
    for (size_t tap = 0; tap < taps_; ++tap) {
      const float* weights = block_.gwc + (channel * taps_ + tap * b_) * own_;
      blocked_.products(weights, space.means + tap * block_.up + own, own_, first + channel);
    }
    const float* weights = block_.pwc1 + channel * block_.up;
    blocked_.products(weights, centre, own, first + channel);
    blocked_.products(weights + (own + own_) * b_, centre + own + own_, block_.up - own - own_,
                      first + channel);
    if (channel >= block_.copied_from) {
      std::memcpy(second + channel, low + channel - block_.copied_from, b_ * sizeof(double));
      continue;
    }
    for (size_t i = 0; i < b_; ++i) second[channel + i] = block_.y2_bias[channel + i];
    blocked_.products(block_.y2 + channel * block_.low, low, block_.low, second + channel);
  }
  weigh(space);
  fold(space);
  return true;
}

// Means -> the softmax's weights, with the folded BatchNorm.
void BlockSample::weigh(const Workspace& space) const {
  const size_t outputs = block_.outputs;
  (block_.fuse.pair ? kernels_.pair : kernels_.joint)(space.means + means_size_, space.weights, outputs);
  for (size_t i = 0; i < outputs; ++i) {
    const float scale = block_.fuse.affine ? block_.scale[i] : 1.0f;
    space.weights[i] *= scale;
    space.weights[outputs + i] *= scale;
    space.weights[2 * outputs + i] = block_.fuse.affine ? block_.shift[i] : 0.0f;
  }
}

// The weights of y2 go into its convolution, so that one sum serves both branches.
void BlockSample::fold(const Workspace& space) const {
  const float* second = space.weights + block_.outputs;
  float* shift = space.weights + 2 * block_.outputs;
  for (size_t channel = 0; channel < block_.copied_from; channel += b_) {
    for (size_t i = 0; i < b_; ++i) shift[channel + i] += second[channel + i] * block_.y2_bias[channel + i];
    const float* from = block_.y2 + channel * block_.low;
    float* to = space.folded + channel * block_.low;
    for (size_t i = 0; i < block_.low; ++i) {
      for (size_t lane = 0; lane < b_; ++lane)
        to[i * b_ + lane] = from[i * b_ + lane] * second[channel + lane];
    }
  }
}

BlockSample::Chunk BlockSample::chunk_at(size_t index) const {
  const size_t group = index / chunks_per_group_, within = index % chunks_per_group_ * kChunk;
  const size_t left = per_group_ - within;
  return {group, group * per_group_ + within, left < kChunk ? left : kChunk};
}

// y1 of one group's outputs.
Convolution BlockSample::first_branch(const Workspace& space, size_t group) const {
  const size_t row = wide_ * b_, own = group * own_, after = own + own_;
  const float* centre = space.up + (border_ * wide_ + border_) * b_;
  Convolution work{};
  work.bias = block_.y1_bias;
  work.first[0] = {space.up, row,        padded_ * b_, block_.kernel,    own,
                   own_,     block_.gwc, own_ * b_,    taps_ * own_ * b_};
  work.first[1] = {centre, row, padded_ * b_, 1, 0, own, block_.pwc1, 0, block_.up * b_};
  work.first[2] = {centre, row,           padded_ * b_, 1, after, block_.up - after, block_.pwc1 + after * b_,
                   0,      block_.up * b_};
  work.out_strides = plane_strides();
  return work;
}

Term BlockSample::second_branch(const Workspace& space, const float* weights) const {
  return {space.low, block_.width * b_, plane_ * b_, 1, 0, block_.low, weights, 0, block_.low * b_};
}

void BlockSample::mix(const Workspace& space, size_t stripe, size_t index, const float* added,
                      float* out) const {
  const Chunk chunk = chunk_at(index);
  Convolution work = first_branch(space, chunk.group);
  work.scale = space.weights;
  work.offset = space.weights + 2 * block_.outputs;
  work.last = second_branch(space, space.folded);
  work.copied_from = block_.copied_from / b_;
  work.copied = space.low;
  work.copy_scale = space.weights + block_.outputs;
  work.copied_strides = plane_strides();
  work.added = added;
  work.relu = block_.fuse.relu;
  work.out = out;
  blocked_.convolve(work, {chunk.first, chunk.blocks, first_row(stripe), rows(stripe), block_.width});
}

void BlockSample::apply(const Workspace& space, size_t stripe, size_t index, float* second,
                        float* out) const {
  const Chunk chunk = chunk_at(index);
  const Region region{chunk.first, chunk.blocks, first_row(stripe), rows(stripe), block_.width};
  Convolution work = first_branch(space, chunk.group);
  work.out = out;
  blocked_.convolve(work, region);
  Convolution other{};
  other.bias = block_.y2_bias;
  other.first[0] = second_branch(space, block_.y2);
  other.out = second;
  other.out_strides = plane_strides();
  Region made = region;
  const size_t copied = block_.copied_from / b_;
  made.blocks = chunk.first >= copied                 ? 0
                : copied - chunk.first < chunk.blocks ? copied - chunk.first
                                                      : chunk.blocks;
  blocked_.convolve(other, made);
  double* sums = space.sums + stripe * sums_size_;
  const size_t from = region.first_row * block_.width * b_, count = region.rows * block_.width;
  for (size_t block = chunk.first; block < chunk.first + chunk.blocks; ++block) {
    blocked_.sums(out + block * plane_ * b_ + from, count, sums + block * b_);
    blocked_.sums(second_at(space, second, block) + from, count, sums + block_.outputs + block * b_);
  }
}

const float* BlockSample::second_at(const Workspace& space, const float* second, size_t block) const {
  const size_t copied = block_.copied_from / b_;
  return block < copied ? second + block * plane_ * b_ : space.low + (block - copied) * plane_ * b_;
}

void BlockSample::weigh_by_results(const Workspace& space) const {
  for (size_t i = 0; i < 2 * block_.outputs; ++i) {
    double sum = 0.0;
    for (size_t stripe = 0; stripe < stripes_; ++stripe) sum += space.sums[stripe * sums_size_ + i];
    space.means[means_size_ + i] = sum / static_cast<double>(plane_);
  }
  weigh(space);
}

void BlockSample::combine(const Workspace& space, size_t stripe, size_t index, const float* second,
                          const float* added, float* out) const {
  const Chunk chunk = chunk_at(index);
  const size_t from = first_row(stripe) * block_.width * b_, count = rows(stripe) * block_.width;
  for (size_t block = chunk.first; block < chunk.first + chunk.blocks; ++block) {
    float* to = out + block * plane_ * b_ + from;
    const float* more = added == nullptr ? nullptr : added + block * plane_ * b_ + from;
    const float* weights = space.weights + block * b_;
    blocked_.combine[block_.fuse.added][block_.fuse.relu](to, second_at(space, second, block) + from, more,
                                                          to, count, weights, weights + block_.outputs,
                                                          weights + 2 * block_.outputs);
  }
}

}  // namespace scconv
