// Runs OpenVINO's kernel of a whole block over odd shapes on real threads, for the sanitizers, without OpenVINO:
// buffers have exactly the size they need, so that one value read or written too far is seen.
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "whole_block.h"

namespace {

constexpr size_t kThreads = 3;

class Threads final : public scconv::Parallel {
 public:
  void run(size_t tasks, Body body, void* data) const override {
    std::vector<std::thread> threads;
    for (size_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([=] {
        for (size_t i = t; i < tasks; i += kThreads) body(data, i);
      });
    }
    for (auto& thread : threads) thread.join();
  }
};

// `values` numbers of either type in memory of exactly their size.
struct Buffer {
  std::unique_ptr<unsigned char[]> bytes;

  Buffer(size_t values, scconv::Element element = scconv::kFloat32)
      : bytes(new unsigned char[values * (element == scconv::kFloat32 ? 4 : 2)]) {
    for (size_t i = 0; i < values; ++i) {
      const float number = static_cast<float>((i * 37 + 11) % 101) / 64.0f - 0.5f;
      uint32_t bits;
      std::memcpy(&bits, &number, 4);
      const uint16_t upper = static_cast<uint16_t>(bits >> 16);
      if (element == scconv::kFloat32)
        std::memcpy(&bytes[i * 4], &number, 4);
      else
        std::memcpy(&bytes[i * 2], &upper, 2);
    }
  }
  void* get() const { return bytes.get(); }
  const float* floats() const { return reinterpret_cast<const float*>(bytes.get()); }
};

struct Shape {
  size_t batch;
  scconv::BlockSizes sizes;  // channels, up, low, out, kernel
  size_t height, width;
};

// From batch 4 on, whole samples are the tasks. 7 and 14 divide the width, or nothing does; one position alone.
const Shape kShapes[] = {
    {0, {32, 16, 16, 32, 3}, 5, 5},    {1, {32, 16, 16, 32, 3}, 1, 1},   {3, {32, 16, 16, 32, 3}, 7, 9},
    {1, {64, 32, 32, 64, 3}, 7, 7},    {3, {64, 32, 16, 64, 1}, 5, 3},   {1, {96, 32, 48, 96, 5}, 3, 17},
    {3, {96, 48, 48, 80, 3}, 14, 14},  {1, {128, 64, 64, 128, 3}, 9, 11}, {3, {128, 32, 32, 128, 7}, 2, 5},
    {5, {64, 16, 32, 48, 3}, 13, 7},   {6, {32, 16, 16, 16, 7}, 1, 33},  {1, {32, 16, 16, 32, 3}, 31, 29},
};

void run(const Shape& shape, int bits, scconv::Element element) {
  const scconv::BlockSizes& sizes = shape.sizes;
  const size_t half = sizes.channels / 2, taps = sizes.kernel * sizes.kernel;
  const size_t plane = shape.height * shape.width;
  const Buffer channels(sizes.channels), up_bias(sizes.up), low_bias(sizes.low), outputs(sizes.out);
  const Buffer up(sizes.up * half, element), low(sizes.low * half, element);
  const Buffer y1(sizes.out * sizes.up * taps, element), y2(sizes.out * sizes.low, element);
  const Buffer x(shape.batch * plane * sizes.channels, element), out(shape.batch * plane * sizes.out, element);
  const void* const weights[] = {up.get(), low.get(), y1.get(), y2.get()};
  const auto kernel = scconv::make_block(element, sizes, weights);
  scconv::Block block;
  block.sru.form = {static_cast<scconv::Gate>(bits % 4), (bits & 4) != 0, (bits & 8) != 0, (bits & 2) != 0,
                    (bits & 1) != 0};
  block.sru.batch = shape.batch;
  block.sru.channels = sizes.channels;
  block.sru.plane = plane;
  block.sru.groups = 4;
  block.sru.epsilon = 1e-5;
  block.sru.scale = block.sru.shift = block.sru.weight = block.sru.mask = channels.floats();
  block.sru.x = x.get();
  block.fuse.pair = bits & 1;
  block.fuse.affine = bits & 2;
  block.fuse.relu = bits & 4;
  block.height = shape.height;
  block.width = shape.width;
  block.biases[0] = up_bias.floats();
  block.biases[1] = low_bias.floats();
  block.biases[2] = block.biases[3] = block.scale = block.shift = outputs.floats();
  block.out = out.get();
  block.threads = kThreads;
  kernel->run(block, Threads());
}

}  // namespace

int main() {
  int types = 0;
  for (const scconv::Element element : {scconv::kFloat32, scconv::kBFloat16}) {
    if (!scconv::has_block(element, kShapes[0].sizes)) continue;
    ++types;
    for (const Shape& shape : kShapes) {
      for (int bits = 0; bits < 16; ++bits) run(shape, bits, element);
    }
  }
  std::printf("%d types ran\n", types);
  return types == 0;
}
