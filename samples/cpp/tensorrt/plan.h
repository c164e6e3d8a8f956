// A plan file -> something that runs it: one execution context on one stream.
#pragma once

#include <NvInferRuntime.h>

#include <filesystem>
#include <memory>
#include <string>

#include "bundle.h"
#include "cuda.h"

namespace gpu {

// What this program was compiled for, as a manifest calls it; a plan of the other kind cannot be read.
#if defined(TRT_MAJOR_RTX)
constexpr const char* kRuntime = "tensorrt-rtx";
#else
constexpr const char* kRuntime = "tensorrt";
#endif

// Keeps the last error of TensorRT, which says why a call gave nothing.
class Log : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override;
  std::string reason() const;  // ": ...", or nothing where TensorRT said nothing

 private:
  std::string last_;
};

class Plan {
 public:
  // Failure where TensorRT cannot load the bundle's plan here, or where the plan's tensors are not the manifest's.
  explicit Plan(const bundle::Bundle& bundle);

  // Named arrays in, named arrays out. Failure where no profile of the plan takes these shapes.
  bundle::Arrays run(const bundle::Arrays& inputs);

 private:
  void compare_with_manifest() const;
  void set_shapes(const bundle::Arrays& inputs);
  bool takes(int profile, const bundle::Arrays& inputs) const;

  const bundle::Bundle& bundle_;
  // Each goes before what made it.
  Log log_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  Stream stream_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
};

}  // namespace gpu
