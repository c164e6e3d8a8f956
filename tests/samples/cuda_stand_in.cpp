// A stand-in for the CUDA runtime, for tests of samples/cpp/tensorrt on machines without a GPU.
//
// A stream does nothing until it is waited for, so that a result read too early is wrong; copies outside of allocated
// memory, and memory that is never given back, end the process with code 99. STAND_IN_FAILS names the call that is to fail.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace {

[[noreturn]] void stop(const std::string& reason) {
  std::fprintf(stderr, "stand-in: %s\n", reason.c_str());
  std::_Exit(99);
}

bool fails(const char* call) {
  const char* named = std::getenv("STAND_IN_FAILS");
  return named != nullptr && std::strcmp(named, call) == 0;
}

}  // namespace

struct CUstream_st {
  std::vector<std::function<void()>> waiting;
};

namespace {

std::map<const char*, std::size_t>& device_memory() {
  static std::map<const char*, std::size_t> memory;
  return memory;
}

void require_on_device(const void* address, std::size_t size, const char* where) {
  const char* begin = static_cast<const char*>(address);
  auto after = device_memory().upper_bound(begin);
  if (after == device_memory().begin()) stop(std::string(where) + ": this is no memory of the device");
  --after;
  if (begin + size > after->first + after->second) stop(std::string(where) + ": beyond the end of its memory");
}

int open_streams = 0;

struct AtEnd {
  ~AtEnd() {
    if (!device_memory().empty()) stop(std::to_string(device_memory().size()) + " buffers were not freed");
    if (open_streams != 0) stop("a stream was not closed");
  }
} at_end;

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = fails("count") ? 0 : 1;
  return fails("driver") ? cudaErrorInsufficientDriver : cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorMemoryAllocation ? "out of memory" : "some CUDA error";
}

cudaError_t cudaMalloc(void** address, std::size_t size) {
  if (fails("malloc")) return cudaErrorMemoryAllocation;
  *address = std::malloc(size);
  std::memset(*address, 0xff, size);  // NaNs, where nothing is written
  device_memory()[static_cast<char*>(*address)] = size;
  return cudaSuccess;
}

cudaError_t cudaFree(void* address) {
  if (address != nullptr && device_memory().erase(static_cast<char*>(address)) != 1) stop("freed what it did not give");
  std::free(address);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  ++open_streams;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  --open_streams;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  for (const auto& work : stream->waiting) work();
  stream->waiting.clear();
  return fails("wait") ? cudaErrorUnknown : cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  stream->waiting.push_back([=] { function(data); });
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind way, cudaStream_t stream) {
  if (fails("copy")) return cudaErrorUnknown;
  require_on_device(way == cudaMemcpyHostToDevice ? to : from, size, "cudaMemcpyAsync");
  stream->waiting.push_back([=] { std::memcpy(to, from, size); });
  return cudaSuccess;
}

}  // extern "C"
