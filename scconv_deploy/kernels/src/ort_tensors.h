// Tensors of a running ONNX Runtime kernel as shapes and addresses; errors as statuses with sentences.
#pragma once

#include <cstdio>

#include "kernels.h"
#include "ort_api.h"

#define SCCONV_RETURN_IF(call) \
  if (OrtStatus* status = (call)) return status

namespace scconv {
namespace ort {

constexpr size_t kRank = 4;
constexpr size_t kMostRank = 6;

struct Tensor {
  int64_t dims[kMostRank] = {0, 1, 1, 1};
  size_t rank = 0;
  const void* data = nullptr;

  // Of the same four axes.
  bool is_image_like(const Tensor& other) const {
    bool same = rank == kRank && other.rank == kRank;
    for (size_t i = 0; i < kRank; ++i) same = same && dims[i] == other.dims[i];
    return same;
  }

  size_t size() const {
    size_t size = 1;
    for (size_t i = 0; i < rank; ++i) size *= static_cast<size_t>(dims[i]);
    return size;
  }
};

// A sentence as a status; printf's format.
template <typename... Values>
OrtStatus* refuse(const Api& api, const char* format, Values... values) {
  char text[256];
  std::snprintf(text, sizeof text, format, values...);
  return api.error(ORT_INVALID_ARGUMENT, text);
}

// The extents of an input of at most kMostRank axes.
inline OrtStatus* read_dims(const Api& api, const OrtValue* value, size_t index, int64_t* dims,
                            size_t* rank) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  SCCONV_RETURN_IF(api.shape(value, &info));
  OrtStatus* status = api.rank(info, rank);
  if (status == nullptr) {
    status = *rank <= kMostRank
                 ? api.dimensions(info, dims, *rank)
                 : refuse(api, "input %zu has %zu axes; at most %zu are possible", index, *rank, kMostRank);
  }
  api.release(info);
  return status;
}

inline OrtStatus* read(const Api& api, const OrtKernelContext* context, size_t index, Tensor* tensor) {
  const OrtValue* value = nullptr;
  SCCONV_RETURN_IF(api.input(context, index, &value));
  if (value == nullptr) return refuse(api, "input %zu is missing", index);
  SCCONV_RETURN_IF(read_dims(api, value, index, tensor->dims, &tensor->rank));
  void* data = nullptr;
  SCCONV_RETURN_IF(api.data(value, &data));
  tensor->data = data;
  return nullptr;
}

inline OrtStatus* read_size(const Api& api, const OrtKernelContext* context, size_t index, size_t* size) {
  Tensor tensor;
  SCCONV_RETURN_IF(read(api, context, index, &tensor));
  *size = tensor.size();
  return nullptr;
}

// A constant: any shape with as many elements.
inline OrtStatus* read_constant(const Api& api, const OrtKernelContext* context, size_t index,
                                size_t channels, const float** values) {
  Tensor tensor;
  SCCONV_RETURN_IF(read(api, context, index, &tensor));
  if (tensor.size() != channels) {
    return refuse(api, "input %zu holds %zu values for %zu channels", index, tensor.size(), channels);
  }
  *values = static_cast<const float*>(tensor.data);
  return nullptr;
}

// An (N, channels, H, W) output for an input of dims (N, ., H, W).
inline OrtStatus* make(const Api& api, OrtKernelContext* context, size_t index, const int64_t* dims,
                       size_t channels, void** data) {
  const int64_t shape[kRank] = {dims[0], static_cast<int64_t>(channels), dims[2], dims[3]};
  OrtValue* value = nullptr;
  SCCONV_RETURN_IF(api.output(context, index, shape, kRank, &value));
  return api.data(value, data);
}

// The runtime's own threads.
class ContextThreads : public Parallel {
 public:
  ContextThreads(const Api& api, const OrtKernelContext* context) : api_(api), context_(context) {}

  void run(size_t tasks, Body body, void* data) const override {
    OrtStatus* status = api_.parallel_for(context_, body, tasks, data);
    if (status == nullptr) return;
    api_.release(status);
    for (size_t i = 0; i < tasks; ++i) body(data, i);
  }

 private:
  const Api& api_;
  const OrtKernelContext* context_;
};

}  // namespace ort
}  // namespace scconv
