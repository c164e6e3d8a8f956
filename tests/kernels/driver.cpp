// Runs every form of both operators over odd shapes on real threads, for the sanitizers: buffers have exactly
// the size they need, so that one value read or written too far is seen.
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "block.h"
#include "fuse.h"
#include "sru.h"

namespace {

class Threads : public scconv::Parallel {
 public:
  void run(size_t tasks, Body body, void* data) const override {
    std::vector<std::thread> threads;
    for (size_t t = 0; t < 3; ++t) {
      threads.emplace_back([=] {
        for (size_t i = t; i < tasks; i += 3) body(data, i);
      });
    }
    for (auto& thread : threads) thread.join();
  }
};

// `values` numbers of either type in memory of exactly their size.
struct Buffer {
  std::unique_ptr<unsigned char[]> bytes;

  Buffer(size_t values, scconv::Type type) : bytes(new unsigned char[values * scconv::size_of(type)]) {
    for (size_t i = 0; i < values; ++i) {
      const float number = static_cast<float>((i * 37 + 11) % 101) / 16.0f - 2.0f;
      // Halves: any bits with a small exponent.
      const uint16_t half = static_cast<uint16_t>(0x3000 + (i * 37) % 0x0c00 + (i % 2 ? 0x8000 : 0));
      if (type == scconv::kFloat)
        std::memcpy(&bytes[i * 4], &number, 4);
      else
        std::memcpy(&bytes[i * 2], &half, 2);
    }
  }
  void* get() const { return bytes.get(); }
};

struct Shape {
  size_t batch, channels, plane, groups;
  size_t block = 0;
};

const Shape kShapes[] = {{0, 4, 9, 2}, {1, 2, 1, 1},     {1, 6, 35, 3},   {2, 8, 15, 5},
                         {5, 6, 7, 2}, {1, 16, 4100, 4}, {6, 4, 2500, 2}, {3, 2, 20001, 1}};

// Groups of whole blocks, of parts of a block, and across blocks.
const Shape kBlocked[] = {{0, 32, 9, 2, 16},  {1, 32, 1, 1, 16},   {1, 64, 35, 4, 16}, {2, 32, 15, 8, 16},
                          {5, 96, 7, 4, 16},  {1, 32, 4100, 2, 16}, {6, 32, 300, 1, 16}, {1, 16, 35, 1, 8},
                          {3, 48, 700, 16, 8}, {4, 16, 5, 4, 8}};

const float* floats(const Buffer& buffer) { return static_cast<const float*>(buffer.get()); }

void run_sru(const Shape& shape, int bits, scconv::Type type, const scconv::Kernels& kernels) {
  scconv::Sru sru;
  sru.form.gate = static_cast<scconv::Gate>(bits / 16);
  sru.form.standard_deviation = bits & 1;
  sru.form.at_least = bits & 2;
  sru.form.normalised = bits & 4;
  sru.form.within = bits & 8;
  // Only groups cut from the flat values may cross channels.
  const bool fits = shape.channels % shape.groups == 0;
  if (!fits && !sru.form.standard_deviation) return;
  const size_t values = shape.batch * shape.channels * shape.plane;
  const Buffer scale(shape.channels, scconv::kFloat), mask(shape.channels, scconv::kFloat);
  const Buffer x(values, type), a(values / 2, type), b(values / 2, type);
  sru.type = type;
  sru.batch = shape.batch;
  sru.channels = shape.channels;
  sru.plane = shape.plane;
  sru.groups = shape.groups;
  sru.block = shape.block;
  sru.epsilon = 1e-5;
  sru.scale = sru.shift = sru.weight = floats(scale);
  sru.mask = floats(mask);
  sru.x = x.get();
  sru.y_a = a.get();
  sru.y_b = b.get();
  scconv::compute(sru, kernels, Threads());
}

void run_fuse(const Shape& shape, int bits, scconv::Type type, const scconv::Kernels& kernels) {
  scconv::Fuse fuse;
  fuse.form.pair = bits & 1;
  fuse.form.affine = bits & 2;
  fuse.form.relu = bits & 4;
  fuse.form.added = bits & 8;
  const size_t values = shape.batch * shape.channels * shape.plane;
  const Buffer scale(shape.channels, scconv::kFloat);
  const Buffer y1(values, type), y2(values, type), added(values, type), out(values, type);
  fuse.type = type;
  fuse.batch = shape.batch;
  fuse.channels = shape.channels;
  fuse.plane = shape.plane;
  fuse.scale = fuse.shift = floats(scale);
  fuse.y1 = y1.get();
  fuse.y2 = y2.get();
  fuse.added = added.get();
  fuse.block = shape.block;
  fuse.out = out.get();
  scconv::compute(fuse, kernels, Threads());
}

// Widths in blocks; odd planes, and planes large enough to be pooled by linearity.
struct BlockShape {
  size_t batch, half, up, low, per_group, groups, kernel, height, width, block;
};

const BlockShape kBlocks[] = {{0, 1, 1, 1, 1, 2, 3, 3, 3, 16}, {1, 1, 1, 1, 1, 2, 3, 1, 1, 16},
                              {2, 2, 1, 2, 3, 1, 5, 7, 9, 8},   {1, 1, 1, 1, 1, 2, 3, 31, 29, 16},
                              {5, 2, 2, 1, 1, 2, 3, 14, 15, 8}, {6, 1, 1, 1, 3, 2, 1, 16, 12, 16}};

void run_block(const BlockShape& shape, int bits, const scconv::Kernels& kernels) {
  scconv::Block block;
  scconv::Sru& sru = block.sru;
  const size_t b = shape.block;
  sru.form.gate = static_cast<scconv::Gate>(bits % 4);
  sru.form.normalised = bits & 1;
  sru.batch = shape.batch;
  sru.channels = 2 * shape.half * b;
  sru.plane = shape.height * shape.width;
  sru.groups = 4;
  sru.block = b;
  sru.epsilon = 1e-5;
  block.fuse.pair = bits & 1;
  block.fuse.affine = bits & 2;
  block.fuse.relu = bits & 4;
  block.fuse.added = bits & 8;
  block.height = shape.height;
  block.width = shape.width;
  block.up = shape.up * b;
  block.low = shape.low * b;
  block.outputs = shape.per_group * shape.groups * b;
  block.up_inputs = shape.half * b;
  block.groups = shape.groups;
  block.kernel = shape.kernel;
  const bool is_copied = shape.low < shape.per_group * shape.groups;
  block.copied_from = block.outputs - (is_copied ? block.low : 0);
  const auto of = [](size_t values) { return Buffer(values, scconv::kFloat); };
  const Buffer channels = of(sru.channels), outputs = of(block.outputs), up_bias = of(block.up);
  const Buffer low_bias = of(block.low), up = of(block.up * block.up_inputs);
  const Buffer low = of(block.low * block.up_inputs), pwc1 = of(block.outputs * block.up);
  const Buffer gwc = of(block.outputs * shape.kernel * shape.kernel * (block.up / shape.groups));
  const Buffer y2 = of(block.outputs * block.low), x = of(shape.batch * sru.channels * sru.plane);
  const size_t values = shape.batch * block.outputs * sru.plane;
  const Buffer added = of(values), out = of(values);
  sru.scale = sru.shift = sru.weight = sru.mask = floats(channels);
  sru.x = x.get();
  block.squeeze_up = floats(up);
  block.squeeze_up_bias = floats(up_bias);
  block.squeeze_low = floats(low);
  block.squeeze_low_bias = floats(low_bias);
  block.gwc = floats(gwc);
  block.pwc1 = floats(pwc1);
  block.y2 = floats(y2);
  block.y1_bias = block.y2_bias = block.scale = block.shift = floats(outputs);
  block.added = floats(added);
  block.out = static_cast<float*>(out.get());
  scconv::compute(block, kernels, Threads());
}

}  // namespace

int main() {
  int builds = 0;
  for (const char* name : {"plain", "avx2", "avx512"}) {
    if (!scconv::select_kernels(name)) continue;
    ++builds;
    for (const Shape& shape : kShapes) {
      for (const scconv::Type type : {scconv::kFloat, scconv::kHalf}) {
        for (int bits = 0; bits < 64; ++bits) run_sru(shape, bits, type, scconv::kernels());
        for (int bits = 0; bits < 16; ++bits) run_fuse(shape, bits, type, scconv::kernels());
      }
    }
    for (const Shape& shape : kBlocked) {
      const scconv::Kernels& kernels = *scconv::kernels_for(shape.block);
      for (int bits = 0; bits < 64; ++bits) run_sru(shape, bits, scconv::kFloat, kernels);
      for (int bits = 0; bits < 16; ++bits) run_fuse(shape, bits, scconv::kFloat, kernels);
    }
    for (const BlockShape& shape : kBlocks) {
      for (int bits = 0; bits < 16; ++bits) run_block(shape, bits, *scconv::kernels_for(shape.block));
    }
  }
  std::printf("%d builds ran\n", builds);
  return builds == 0;
}
