#include "plan.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "failure.h"
#include "file.h"

namespace gpu {
namespace {

using bundle::Array;
using bundle::Arrays;
using bundle::Element;
using bundle::End;
using bundle::Shape;
using nvinfer1::DataType;

DataType data_type(Element element) {
  switch (element) {
    case Element::kFloat16: return DataType::kHALF;
    case Element::kBfloat16: return DataType::kBF16;
    case Element::kFloat32: return DataType::kFLOAT;
    case Element::kInt32: return DataType::kINT32;
    case Element::kInt64: return DataType::kINT64;
    case Element::kUint8: return DataType::kUINT8;
    case Element::kBool: return DataType::kBOOL;
    case Element::kFloat64: break;
  }
  throw bundle::bad_input("TensorRT has no tensors of type " + name_of(element));
}

Shape shape_of(const nvinfer1::Dims& dims) { return Shape(dims.d, dims.d + std::max(dims.nbDims, 0)); }

nvinfer1::Dims dims_of(const Shape& shape) {
  nvinfer1::Dims dims = {};
  if (shape.size() > static_cast<std::size_t>(nvinfer1::Dims::MAX_DIMS)) {
    throw bundle::bad_input("TensorRT takes no tensor of " + std::to_string(shape.size()) + " axes");
  }
  dims.nbDims = static_cast<int32_t>(shape.size());
  std::copy(shape.begin(), shape.end(), dims.d);
  return dims;
}

}  // namespace

void Log::log(Severity severity, const char* message) noexcept {
  if (severity > Severity::kERROR) return;
  try {
    last_ = std::string(message).substr(0, std::string_view(message).find_first_of("\r\n"));
  } catch (...) {  // no memory left for it; nothing may be thrown through TensorRT
  }
}

std::string Log::reason() const { return last_.empty() ? "" : ": " + last_; }

Plan::Plan(const bundle::Bundle& bundle) : bundle_(bundle) {
  runtime_.reset(nvinfer1::createInferRuntime(log_));
  if (!runtime_) throw bundle::missing("TensorRT cannot be started here" + log_.reason());
  {
    const std::string data = bundle::read_file(bundle.artifact);  // not needed any more once it is deserialised
    engine_.reset(runtime_->deserializeCudaEngine(data.data(), data.size()));
  }
  if (!engine_) {
    throw bundle::missing("TensorRT cannot load " + bundle.artifact.string() + " on this GPU" + log_.reason());
  }
  compare_with_manifest();
  context_.reset(engine_->createExecutionContext());
  if (!context_) throw bundle::missing("the GPU's memory does not hold an execution context" + log_.reason());
}

void Plan::compare_with_manifest() const {
  const auto count = static_cast<std::size_t>(engine_->getNbIOTensors());
  if (count != bundle_.inputs.size() + bundle_.outputs.size()) {
    throw bundle::bad_input(bundle_.artifact.string() + " has " + std::to_string(count) +
                            " inputs and outputs, another number than its manifest");
  }
  const auto compare = [&](const End& end, nvinfer1::TensorIOMode mode) {
    const char* name = end.name.c_str();
    if (engine_->getTensorIOMode(name) != mode || engine_->getTensorDataType(name) != data_type(end.element)) {
      throw bundle::bad_input(bundle_.artifact.string() + " has no such tensor as its manifest's " + describe(end));
    }
    if (engine_->getTensorLocation(name) != nvinfer1::TensorLocation::kDEVICE) {
      throw bundle::bad_input("tensor '" + end.name + "' lies in the host's memory, which this sample does not serve");
    }
  };
  for (const End& end : bundle_.inputs) compare(end, nvinfer1::TensorIOMode::kINPUT);
  for (const End& end : bundle_.outputs) compare(end, nvinfer1::TensorIOMode::kOUTPUT);
}

bool Plan::takes(int profile, const Arrays& inputs) const {
  for (const auto& [name, array] : inputs) {
    const auto bound = [&, key = name.c_str()](nvinfer1::OptProfileSelector which) {
      return shape_of(engine_->getProfileShape(key, profile, which));
    };
    const Shape least = bound(nvinfer1::OptProfileSelector::kMIN), most = bound(nvinfer1::OptProfileSelector::kMAX);
    if (least.size() != array.shape.size() || most.size() != array.shape.size()) return false;
    for (std::size_t axis = 0; axis < least.size(); ++axis) {
      if (array.shape[axis] < least[axis] || array.shape[axis] > most[axis]) return false;
    }
  }
  return true;
}

void Plan::set_shapes(const Arrays& inputs) {
  int profile = 0;
  while (profile < engine_->getNbOptimizationProfiles() && !takes(profile, inputs)) ++profile;
  if (profile == engine_->getNbOptimizationProfiles()) {
    throw bundle::bad_input("no profile of " + bundle_.artifact.string() + " takes the shapes of these inputs");
  }
  // The stream must have come to its end before the shapes that belong to the profile are set.
  if (!context_->setOptimizationProfileAsync(profile, stream_.handle())) {
    throw bundle::missing("TensorRT does not change to profile " + std::to_string(profile) + log_.reason());
  }
  stream_.wait();
  for (const auto& [name, array] : inputs) {
    if (!context_->setInputShape(name.c_str(), dims_of(array.shape))) {
      const std::string shape = bundle::text(array.shape);
      throw bundle::bad_input("TensorRT refuses the shape " + shape + " of '" + name + "'" + log_.reason());
    }
  }
  if (context_->inferShapes(0, nullptr) != 0) {
    throw bundle::bad_input("TensorRT still lacks shapes of " + bundle_.artifact.string() + log_.reason());
  }
}

Arrays Plan::run(const Arrays& inputs) {
  set_shapes(inputs);
  Arrays answers;
  // Goes before the answers: freeing it waits for copies that an error left under way.
  std::map<std::string, Memory> memory;
  const auto placed = [&](const std::string& name, std::size_t size) -> const Memory& {
    const Memory& made = memory.try_emplace(name, size).first->second;
    if (!context_->setTensorAddress(name.c_str(), made.address())) {
      throw bundle::missing("TensorRT does not take the memory of '" + name + "'" + log_.reason());
    }
    return made;
  };
  for (const End& end : bundle_.outputs) {
    answers[end.name] = bundle::make_array(end.element, shape_of(context_->getTensorShape(end.name.c_str())));
    placed(end.name, answers[end.name].bytes.size());
  }
  for (const auto& [name, array] : inputs) {
    placed(name, array.bytes.size()).send(array.bytes.data(), array.bytes.size(), stream_);
  }
  if (!context_->enqueueV3(stream_.handle())) {
    throw bundle::missing("the plan could not be started" + log_.reason());
  }
  for (auto& [name, array] : answers) memory.at(name).fetch(array.bytes.data(), array.bytes.size(), stream_);
  stream_.wait();
  return answers;
}

}  // namespace gpu
