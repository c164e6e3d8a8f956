#include "cuda.h"

#include <algorithm>

#include "failure.h"

namespace gpu {

void check(cudaError_t status, const std::string& doing) {
  if (status == cudaSuccess) return;
  throw bundle::missing("CUDA reports an error in " + doing + ": " + cudaGetErrorString(status));
}

void require_device() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    throw bundle::missing(std::string("no NVIDIA GPU can be used here: ") + cudaGetErrorString(status));
  }
  if (count == 0) throw bundle::missing("there is no NVIDIA GPU here");
}

// Of its own: it does not wait for the default stream.
Stream::Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "opening a stream"); }

// Nothing useful can be done about an error here, and none may leave a destructor.
Stream::~Stream() { static_cast<void>(cudaStreamDestroy(stream_)); }

void Stream::wait() const { check(cudaStreamSynchronize(stream_), "waiting for the stream"); }

Memory::Memory(std::size_t size) {
  const std::size_t least = std::max<std::size_t>(size, 1);
  check(cudaMalloc(&address_, least), "allocating " + std::to_string(least) + " bytes");
}

Memory::~Memory() { static_cast<void>(cudaFree(address_)); }

void Memory::send(const void* host, std::size_t size, const Stream& stream) const {
  check(cudaMemcpyAsync(address_, host, size, cudaMemcpyHostToDevice, stream.handle()), "copying to the device");
}

void Memory::fetch(void* host, std::size_t size, const Stream& stream) const {
  check(cudaMemcpyAsync(host, address_, size, cudaMemcpyDeviceToHost, stream.handle()), "copying from the device");
}

}  // namespace gpu
