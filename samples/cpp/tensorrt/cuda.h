// Device memory and a stream that give themselves back; every CUDA error is a sentence.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

namespace gpu {

// Failure where a call of the CUDA runtime, named in words, did not succeed.
void check(cudaError_t status, const std::string& doing);

// Failure where there is no GPU to work on.
void require_device();

class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t handle() const { return stream_; }
  void wait() const;

 private:
  cudaStream_t stream_ = nullptr;
};

class Memory {
 public:
  explicit Memory(std::size_t size);  // at least one byte: TensorRT takes no null address
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* address() const { return address_; }
  // Both begin a copy on the stream; the host's side must live until the stream was waited for.
  void send(const void* host, std::size_t size, const Stream& stream) const;
  void fetch(void* host, std::size_t size, const Stream& stream) const;

 private:
  void* address_ = nullptr;
};

}  // namespace gpu
