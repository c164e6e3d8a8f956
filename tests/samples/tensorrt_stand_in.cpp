// A stand-in for TensorRT, for tests of samples/cpp/tensorrt: it computes on the host, and moves data through CUDA.
//
// The interfaces are those of the real headers; what the sample may call is here, every other method of TensorRT aborts
// with its name (stand_in_defaults.h, which the test writes from NvInferImpl.h). A "plan" is text: `TWICE 1 4 8 16` takes x of
// (batch, 3, height, width), gives y = 2 x and z, the mean over height and width, and has a profile for batches 1 to 4 and
// one for 8 to 16. STAND_IN_FAILS names the call that is to fail.
#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <sstream>
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

#include "stand_in_defaults.h"

namespace {

using namespace nvinfer1;

using Profiles = std::vector<std::pair<int64_t, int64_t>>;  // smallest and largest batch

Dims image(int64_t batch, int64_t extent) { return {4, {batch, 3, extent, extent}}; }

bool is(const char* name, const char* other) { return std::strcmp(name, other) == 0; }

class Context : public IExecutionContext, public apiv::ExecutionContextDefaults {
 public:
  explicit Context(const Profiles& profiles) : profiles_(profiles) { mImpl = this; }

  bool setOptimizationProfileAsync(int32_t index, cudaStream_t) noexcept override {
    profile_ = static_cast<std::size_t>(index);
    shape_ = {};
    return !fails("profile");
  }
  bool setInputShape(const char* name, const Dims& dims) noexcept override {
    const auto& [least, most] = profiles_.at(profile_);
    if (!is(name, "x") || dims.d[0] < least || dims.d[0] > most) return false;
    shape_ = dims;
    return true;
  }
  int32_t inferShapes(int32_t, const char**) noexcept override { return shape_.nbDims == 4 ? 0 : 1; }
  Dims getTensorShape(const char* name) const noexcept override {
    return is(name, "z") ? Dims{2, {shape_.d[0], shape_.d[1]}} : shape_;
  }
  bool setTensorAddress(const char* name, void* address) noexcept override {
    addresses_[name] = address;
    return true;
  }
  bool enqueueV3(cudaStream_t stream) noexcept override {
    if (fails("enqueue")) return false;
    const auto rows = static_cast<std::size_t>(shape_.d[0] * shape_.d[1]);
    const auto plane = static_cast<std::size_t>(shape_.d[2] * shape_.d[3]);
    passes_.push_back(std::make_unique<Pass>(rows, plane));
    Pass& pass = *passes_.back();
    return fetch(pass.x, "x", stream) && cudaLaunchHostFunc(stream, compute, &pass) == cudaSuccess &&
           send(pass.y, "y", stream) && send(pass.z, "z", stream);
  }

 private:
  // What one pass works on; it lives as long as the context, since the stream may come to it late.
  struct Pass {
    Pass(std::size_t rows, std::size_t plane) : x(rows * plane), y(rows * plane), z(rows) {}
    std::vector<float> x, y, z;
  };

  static void CUDART_CB compute(void* data) {
    Pass& pass = *static_cast<Pass*>(data);
    const std::size_t plane = pass.x.size() / pass.z.size();
    for (std::size_t row = 0; row < pass.z.size(); ++row) {
      double sum = 0.0;
      for (std::size_t i = row * plane; i < (row + 1) * plane; ++i) {
        pass.y[i] = pass.x[i] + pass.x[i];
        sum += static_cast<double>(pass.x[i]);
      }
      pass.z[row] = static_cast<float>(sum / static_cast<double>(plane));
    }
  }

  bool fetch(std::vector<float>& host, const char* name, cudaStream_t stream) {
    const std::size_t size = host.size() * sizeof(float);
    return cudaMemcpyAsync(host.data(), addresses_[name], size, cudaMemcpyDeviceToHost, stream) == cudaSuccess;
  }

  bool send(const std::vector<float>& host, const char* name, cudaStream_t stream) {
    const std::size_t size = host.size() * sizeof(float);
    return cudaMemcpyAsync(addresses_[name], host.data(), size, cudaMemcpyHostToDevice, stream) == cudaSuccess;
  }

  Profiles profiles_;
  std::size_t profile_ = 0;
  Dims shape_ = {};
  std::map<std::string, void*> addresses_;
  std::vector<std::unique_ptr<Pass>> passes_;
};

class Engine : public ICudaEngine, public apiv::CudaEngineDefaults {
 public:
  explicit Engine(Profiles profiles) : profiles_(std::move(profiles)) { mImpl = this; }

  IExecutionContext* createExecutionContext(ExecutionContextAllocationStrategy) noexcept override {
    return fails("context") ? nullptr : new Context(profiles_);
  }
  int32_t getNbIOTensors() const noexcept override { return 3; }
  TensorIOMode getTensorIOMode(const char* name) const noexcept override {
    if (is(name, "x")) return TensorIOMode::kINPUT;
    return is(name, "y") || is(name, "z") ? TensorIOMode::kOUTPUT : TensorIOMode::kNONE;
  }
  DataType getTensorDataType(const char*) const noexcept override { return DataType::kFLOAT; }
  TensorLocation getTensorLocation(const char*) const noexcept override { return TensorLocation::kDEVICE; }
  int32_t getNbOptimizationProfiles() const noexcept override { return static_cast<int32_t>(profiles_.size()); }
  Dims getProfileShape(const char*, int32_t index, OptProfileSelector which) const noexcept override {
    const auto& [least, most] = profiles_.at(static_cast<std::size_t>(index));
    return which == OptProfileSelector::kMAX ? image(most, 32) : image(least, 8);
  }

 private:
  Profiles profiles_;
};

class Runtime : public IRuntime, public apiv::RuntimeDefaults {
 public:
  explicit Runtime(ILogger* log) : log_(log) { mImpl = this; }

  ICudaEngine* deserializeCudaEngine(const void* data, std::size_t size) noexcept override {
    std::istringstream words(std::string(static_cast<const char*>(data), size));
    std::string kind;
    words >> kind;
    if (kind != "TWICE") {
      log_->log(ILogger::Severity::kERROR, "this plan was made by a stranger\nand a second line");
      log_->log(ILogger::Severity::kINFO, "chatter");
      return nullptr;
    }
    Profiles profiles;
    for (int64_t least = 0, most = 0; words >> least >> most;) profiles.emplace_back(least, most);
    return new Engine(profiles);
  }

 private:
  ILogger* log_;
};

}  // namespace

extern "C" {

void* createInferRuntime_INTERNAL(void* log, int32_t version) noexcept {
  if (version != NV_TENSORRT_VERSION) stop("another version was asked for");
  return fails("runtime") ? nullptr : static_cast<IRuntime*>(new Runtime(static_cast<ILogger*>(log)));
}

int32_t getInferLibVersion() noexcept { return NV_TENSORRT_VERSION; }

}  // extern "C"
