#include "whole_block.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "arena.h"
#include "pool.h"
#include "rows.h"
#include "tasks.h"
#include "tiles.h"

namespace scconv {
namespace {

constexpr size_t kMostKernel = 7;

class Alone final : public Parallel {
 public:
  void run(size_t tasks, Body body, void* data) const override {
    for (size_t i = 0; i < tasks; ++i) body(data, i);
  }
};

template <typename T>
struct Weights {
  BlockSizes sizes;
  Panels<T> up, low, y1, y2;

  Weights(const BlockSizes& s, const T* const* given)
      : sizes(s),
        up(given[0], s.up, s.channels / 2, 1),
        low(given[1], s.low, s.channels / 2, 1),
        y1(given[2], s.out, s.up, s.kernel),
        y2(given[3], s.out, s.low, 1) {}
};

template <typename T>
class Sample {
  using Kernel = Tiles<T>;
  static constexpr size_t kStretch = Kernel::kStretch, kRows = 2 * kStretch;

 public:
  Sample(const Block& block, const Weights<T>& weights, size_t index, const Parallel& parallel, size_t threads)
      : block_(block), weights_(weights), sizes_(weights.sizes), parallel_(parallel), threads_(threads) {
    sru_ = block.sru;
    sru_.batch = 1;
    sru_.x = static_cast<const T*>(sru_.x) + index * sru_.plane * sru_.channels;
    out_ = static_cast<T*>(block.out) + index * sru_.plane * sizes_.out;
    pad_ = sizes_.kernel / 2;
    pitch_ = block.width + 2 * pad_;
    lines_ = block.height + 2 * pad_;
    // As many items as threads can share; a few rows of a product may stay empty.
    items_ = (sru_.plane + kRows - 1) / kRows;
    items_ = (items_ + threads - 1) / threads * threads;
    per_item_ = (sru_.plane + items_ - 1) / items_;
    items_ = (sru_.plane + per_item_ - 1) / per_item_;
    spread_ = (sizes_.kernel * sizes_.up + 31) / 32 * 32;
    reserve();
  }

  void run() {
    const std::unique_ptr<SruSteps> steps = sru_steps(sru_, element());
    each(steps->stretches(), [&](size_t i) { steps->measure(i); });
    steps->normalise();
    clear_borders();
    in_tiles(items_, [&](size_t i) { squeeze(*steps, i); });
    spread();
    pool();
    weigh();
    finish();
  }

 private:
  static Element element() { return std::is_same<T, float>::value ? kFloat32 : kBFloat16; }

  void reserve() {
    Arena& arena = memory_.arena();
    // A product reads whole tiles: up to kRows positions and a step behind the last.
    const size_t behind = 2 * kRows + 32;
    const size_t up = (lines_ * pitch_ + behind) * sizes_.up, low = (block_.height * pitch_ + behind) * sizes_.low;
    const size_t lines = 16 * sizes_.kernel * spread_, lows = 16 * ((sizes_.low + 31) / 32 * 32);
    const size_t sums = items_ * (sizes_.up + sizes_.low);
    arena.reserve(Arena::bytes_of<T>(up) + Arena::bytes_of<T>(low) + Arena::bytes_of<T>(lines) +
                  Arena::bytes_of<T>(lows) + Arena::bytes_of<float>(sums) +
                  3 * Arena::bytes_of<double>(2 * sizes_.out + 32));
    up_ = arena.take<T>(up);
    low_ = arena.take<T>(low);
    up_sums_ = arena.take<T>(lines);
    low_sums_ = arena.take<T>(lows);
    sums_ = arena.take<float>(sums);
    means_ = arena.take<double>(2 * sizes_.out + 32);
    mix_ = arena.take<float>(2 * sizes_.out + 32);
    shift_ = arena.take<float>(sizes_.out + 32);
  }

  template <typename Function>
  void each(size_t items, const Function& function) const {
    const size_t tasks = std::min(items, threads_);
    parallel_.each(tasks, [&](size_t task) {
      for (size_t i = items * task / tasks; i < items * (task + 1) / tasks; ++i) function(i);
    });
  }

  template <typename Function>
  void in_tiles(size_t items, const Function& function, bool worth = true) const {
    const size_t tasks = worth ? std::min(items, threads_) : 1;
    parallel_.each(tasks, [&](size_t task) {
      const typename Kernel::Session session;
      for (size_t i = items * task / tasks; i < items * (task + 1) / tasks; ++i) function(i);
    });
  }

  T* up_at(size_t y, size_t x) const { return up_ + (y * pitch_ + x) * sizes_.up; }

  static void clear(T* from, size_t count) { __builtin_memset(static_cast<void*>(from), 0, count * sizeof(T)); }

  void clear_borders() {
    const size_t up = sizes_.up, low = sizes_.low, height = block_.height, width = block_.width;
    clear(up_, pad_ * pitch_ * up);
    // What follows a line's last position up to the next line's first: both borders of two lines.
    for (size_t y = 0; y < height; ++y) {
      clear(up_at(y + pad_, 0), pad_ * up);
      clear(up_at(y + pad_, pad_ + width), pad_ * up);
      clear(low_ + (y * pitch_ + width) * low, 2 * pad_ * low);
    }
    clear(up_at(height + pad_, 0), pad_ * pitch_ * up + 2 * Kernel::kStep);
    clear(low_ + height * pitch_ * low, 2 * Kernel::kStep);
  }

  static void multiply(const T* rows, size_t stride, const Panel<T>& panel, float* sums) {
    Kernel::template multiply<true>(rows, rows + kStretch * stride, stride, 0, panel, sums);
  }

  void squeeze(const SruSteps& steps, size_t item) {
    const size_t half = sru_.channels / 2, first = item * per_item_;
    const size_t count = std::min(per_item_, sru_.plane - first);
    const Borrowed memory;
    Arena& arena = memory.arena();
    const size_t gated = (kRows + 1) * half + 64;
    arena.reserve(2 * Arena::bytes_of<T>(gated) + Arena::bytes_of<float>(kRows * kColumns));
    T* const y_a = arena.take<T>(gated);
    T* const y_b = arena.take<T>(gated);
    float* const sums = arena.take<float>(kRows * kColumns);
    if (is_heavy()) weights_.y1.fetch(item, items_);
    steps.gate(first, count, y_a, y_b);
    // The last step may reach into what follows, whose weights are zero: it must be no NaN.
    clear(y_a + count * half, Kernel::kStep);
    clear(y_b + count * half, Kernel::kStep);
    float* const totals = sums_ + item * (sizes_.up + sizes_.low);
    for (size_t i = 0; i < weights_.up.count(); ++i) {
      multiply(y_a, half, weights_.up[i], sums);
      keep(sums, block_.biases[0], i, sizes_.up, first, count, up_at(pad_, pad_), totals);
    }
    for (size_t i = 0; i < weights_.low.count(); ++i) {
      multiply(y_b, half, weights_.low[i], sums);
      keep(sums, block_.biases[1], i, sizes_.low, first, count, low_, totals + sizes_.up);
    }
  }

  // A panel's sums and the bias, rounded as the tensor is; and their total over these positions.
  void keep(const float* sums, const float* bias, size_t panel, size_t channels, size_t first, size_t count,
            T* image, float* totals) const {
    for (size_t c = panel * kColumns; c < std::min((panel + 1) * kColumns, channels); c += kLanes) {
      const Floats b = load(bias + c);
      Floats total{};
      size_t y = first / block_.width, x = first % block_.width;
      for (size_t row = 0; row < count; ++row) {
        T* const to = image + (y * pitch_ + x) * channels + c;
        store(to, load(sums + row * kColumns + c % kColumns) + b);
        total += load(to);
        if (++x == block_.width) x = 0, ++y;
      }
      store(totals + c, total);
    }
  }

  // As three values of type T whose sum is the total, in three rows.
  void put(T* rows, size_t width, Floats value) const {
    for (size_t row = 0; row < 3; ++row) {
      store(rows + row * width, value);
      value -= load(rows + row * width);
    }
  }

  void spread() {
    const size_t up = sizes_.up, low = sizes_.low, kernel = sizes_.kernel, width = up + low;
    const size_t low_width = (low + 31) / 32 * 32;
    clear(up_sums_, 3 * kernel * spread_);
    clear(low_sums_, 3 * low_width);
    for (size_t c = 0; c < width; c += kLanes) {
      Doubles whole{};
      for (size_t i = 0; i < items_; ++i) whole += widened(load(sums_ + i * width + c));
      if (c < up) put_seen(whole, c);
      else put(low_sums_ + (c - up), low_width, narrowed(whole));
    }
  }

  // Of `count` lines or columns, those that a tap does not see, on the image's far side: [first, last).
  struct Range {
    size_t first, last;
  };
  Range unseen(size_t tap, size_t count) const {
    if (tap >= pad_) return {0, std::min(tap - pad_, count)};
    return {count - std::min(pad_ - tap, count), count};
  }

  // For each tap of the kernel, the sum over the positions that it sees.
  void put_seen(Doubles whole, size_t c) {
    const size_t height = block_.height, width = block_.width, kernel = sizes_.kernel;
    const auto at = [&](size_t y, size_t x) { return load(up_at(y + pad_, x + pad_) + c); };
    for (size_t ky = 0; ky < kernel; ++ky) {
      const Range lines = unseen(ky, height);
      Doubles line_sum{};
      for (size_t y = lines.first; y < lines.last; ++y) {
        line_sum += sum_rows(width, [&](size_t x) { return at(y, x); });
      }
      line_sums_[ky] = line_sum;
      const Range columns = unseen(ky, width);
      Doubles column_sum{};
      for (size_t x = columns.first; x < columns.last; ++x) {
        column_sum += sum_rows(height, [&](size_t y) { return at(y, x); });
      }
      column_sums_[ky] = column_sum;
    }
    for (size_t ky = 0; ky < kernel; ++ky) {
      for (size_t kx = 0; kx < kernel; ++kx) {
        const Range lines = unseen(ky, height), columns = unseen(kx, width);
        Doubles seen = whole - line_sums_[ky] - column_sums_[kx];
        for (size_t y = lines.first; y < lines.last; ++y) {
          for (size_t x = columns.first; x < columns.last; ++x) seen += widened(at(y, x));
        }
        put(up_sums_ + ky * spread_ + kx * sizes_.up + c, kernel * spread_, narrowed(seen));
      }
    }
  }

  // Y1's weights are read by all threads together, and fetched while the gate computes.
  bool is_heavy() const { return weights_.y1.bytes() > 65536; }

  void pool() {
    const size_t low_width = (sizes_.low + 31) / 32 * 32;
    const double plane = static_cast<double>(sru_.plane);
    in_tiles(weights_.y1.count(), [&](size_t i) {
      alignas(64) float sums[kRows * kColumns];
      for (size_t part = 0; part < 2; ++part) {
        const T* const rows = part == 0 ? up_sums_ : low_sums_;
        const size_t stride = part == 0 ? sizes_.kernel * spread_ : low_width;
        const Panel<T> panel = part == 0 ? weights_.y1[i] : weights_.y2[i];
        Kernel::template multiply<false>(rows, rows, stride, part == 0 ? spread_ : 0, panel, sums);
        for (size_t c = i * kColumns; c < std::min((i + 1) * kColumns, sizes_.out); ++c) {
          const float* const sum = sums + c % kColumns;
          const double whole = static_cast<double>(sum[0]) + sum[kColumns] + sum[2 * kColumns];
          means_[part * sizes_.out + c] = whole / plane + block_.biases[2 + part][c];
        }
      }
    }, is_heavy());
  }

  void weigh() {
    const size_t out = sizes_.out;
    (block_.fuse.pair ? pair_weights : joint_weights)(means_, mix_, out);
    for (size_t c = 0; c < out; ++c) {
      if (block_.fuse.affine) {
        mix_[c] *= block_.scale[c];
        mix_[out + c] *= block_.scale[c];
      }
      shift_[c] = (block_.fuse.affine ? block_.shift[c] : 0.0f) + mix_[c] * block_.biases[2][c] +
                  mix_[out + c] * block_.biases[3][c];
    }
  }

  void finish() {
    const size_t tiles = (stretches() + 1) / 2, panels = weights_.y1.count();
    // Whichever is larger is read once: the weights, or the tensors.
    const bool by_panels = panels >= threads_ && weights_.y1.bytes() > sru_.plane * sizes_.up * sizeof(T);
    in_tiles(tiles * panels, [&](size_t i) {
      if (by_panels) return finish(i % tiles, i / tiles);
      finish(i / panels, i % panels);
    });
  }

  // Stretches of positions: cut from lines where they fill them, else from all lines in a row, borders included.
  bool in_lines() const { return block_.width % kStretch == 0; }
  size_t stretches() const {
    if (in_lines()) return sru_.plane / kStretch;
    return ((block_.height - 1) * pitch_ + block_.width + kStretch - 1) / kStretch;
  }
  // A stretch's first position, counted with the borders.
  size_t begin(size_t stretch) const {
    const size_t first = stretch * kStretch;
    return in_lines() ? first / block_.width * pitch_ + first % block_.width : first;
  }

  void finish(size_t tile, size_t panel) {
    alignas(64) float y1[kRows * kColumns];
    alignas(64) float y2[kRows * kColumns];
    // Without a partner, the last stretch is done twice.
    const size_t one = begin(2 * tile), other = begin(std::min(2 * tile + 1, stretches() - 1));
    const T *up = up_ + one * sizes_.up, *low = low_ + one * sizes_.low;
    Kernel::template multiply<true>(up, up_ + other * sizes_.up, sizes_.up, pitch_ * sizes_.up, weights_.y1[panel], y1);
    Kernel::template multiply<true>(low, low_ + other * sizes_.low, sizes_.low, 0, weights_.y2[panel], y2);
    const size_t half = kStretch * kColumns;
    if (block_.fuse.relu) {
      mix<true>(y1, y2, one, panel);
      mix<true>(y1 + half, y2 + half, other, panel);
    } else {
      mix<false>(y1, y2, one, panel);
      mix<false>(y1 + half, y2 + half, other, panel);
    }
  }

  template <bool kRelu>
  void mix(const float* y1, const float* y2, size_t first, size_t panel) {
    const size_t c = panel * kColumns, pair = sizes_.out - c >= kColumns ? kLanes : 0;
    const Floats w1 = load(mix_ + c), w2 = load(mix_ + sizes_.out + c), s = load(shift_ + c);
    const Floats v1 = load(mix_ + c + pair), v2 = load(mix_ + sizes_.out + c + pair), r = load(shift_ + c + pair);
    const size_t last = first + kStretch;
    for (size_t y = first / pitch_; y < block_.height && y * pitch_ < last; ++y) {
      const size_t begin = std::max(y * pitch_, first), end = std::min(y * pitch_ + block_.width, last);
      T* to = out_ + (begin - y * 2 * pad_) * sizes_.out + c;
      for (size_t q = begin; q < end; ++q, to += sizes_.out) {
        const float* const a = y1 + (q - first) * kColumns;
        const float* const b = y2 + (q - first) * kColumns;
        store(to, active<kRelu>(w1 * load(a) + w2 * load(b) + s));
        store(to + pair, active<kRelu>(v1 * load(a + pair) + v2 * load(b + pair) + r));
      }
    }
  }

  const Block& block_;
  const Weights<T>& weights_;
  const BlockSizes& sizes_;
  const Parallel& parallel_;
  size_t threads_;
  Borrowed memory_;
  Sru sru_;
  T* out_;
  size_t pad_, pitch_, lines_, items_, per_item_, spread_;
  T *up_, *low_, *up_sums_, *low_sums_;
  float *sums_, *mix_, *shift_;
  double* means_;
  Doubles line_sums_[kMostKernel], column_sums_[kMostKernel];
};

template <typename T>
class PackedBlock final : public BlockKernel {
 public:
  PackedBlock(const BlockSizes& sizes, const void* const* given) : weights_(sizes, typed(given).data()) {}

  void run(const Block& block, const Parallel& parallel) const override {
    const size_t batch = block.sru.batch;
    if (batch == 0 || block.sru.plane == 0) return;
    if (batch >= kSamplesApart) {
      parallel.each(batch, [&](size_t sample) { Sample<T>(block, weights_, sample, Alone(), 1).run(); });
      return;
    }
    for (size_t i = 0; i < batch; ++i) Sample<T>(block, weights_, i, parallel, block.threads).run();
  }

 private:
  static std::vector<const T*> typed(const void* const* given) {
    std::vector<const T*> found;
    for (size_t i = 0; i < 4; ++i) found.push_back(static_cast<const T*>(given[i]));
    return found;
  }
  Weights<T> weights_;
};

template <typename T>
bool has(const BlockSizes& sizes) {
  const bool fits = sizes.channels % 32 == 0 && sizes.up % 16 == 0 && sizes.low % 16 == 0 && sizes.out % 16 == 0;
  const bool is_known = sizes.kernel % 2 == 1 && sizes.kernel <= kMostKernel;
  return fits && is_known && kLanes == 16 && Tiles<T>::kHere && Tiles<T>::allowed();
}

}  // namespace

bool has_block(Element element, const BlockSizes& sizes) {
  return (element == kBFloat16 && has<BFloat>(sizes)) || (element == kFloat32 && has<float>(sizes));
}

std::unique_ptr<BlockKernel> make_block(Element element, const BlockSizes& sizes, const void* const* weights) {
  if (!has_block(element, sizes)) return nullptr;
  if (element == kFloat32) return std::make_unique<PackedBlock<float>>(sizes, weights);
  return std::make_unique<PackedBlock<BFloat>>(sizes, weights);
}

}  // namespace scconv
