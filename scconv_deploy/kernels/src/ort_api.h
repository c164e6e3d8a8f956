// The part of ONNX Runtime's C interface that a custom operator needs, declared by hand.
//
// No wheel and no distribution's package ships the headers, and the interface is append-only: `OrtApi` is a
// table of function pointers whose order never changes, `OrtCustomOp` a struct that only grows at its end and
// says its own version. Version 17 (ONNX Runtime 1.17) has all that is used here; what `GetApi(17)` answers
// is the same in every later release. tests/kernels/test_versions.py runs it on several.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

extern "C" {

struct OrtStatus;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtValue;
struct OrtTensorTypeAndShapeInfo;
struct OrtShapeInferContext;
struct OrtApi;  // a table of pointers; read through ort::Api

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

enum OrtElementType { ORT_FLOAT = 1, ORT_FLOAT16 = 10 };
enum OrtErrorCode { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };
enum OrtMemoryType { ORT_DEFAULT_MEMORY = 0 };
enum OrtCharacteristic { ORT_REQUIRED = 0, ORT_VARIADIC = 2 };

struct OrtCustomOp {
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  OrtElementType (*GetInputType)(const OrtCustomOp*, size_t);
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  OrtElementType (*GetOutputType)(const OrtCustomOp*, size_t);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void*, OrtKernelContext*);
  void (*KernelDestroy)(void*);
  OrtCharacteristic (*GetInputCharacteristic)(const OrtCustomOp*, size_t);
  OrtCharacteristic (*GetOutputCharacteristic)(const OrtCustomOp*, size_t);
  OrtMemoryType (*GetInputMemoryType)(const OrtCustomOp*, size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
  OrtStatus* (*InferOutputShape)(const OrtCustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
};

}  // extern "C"

namespace scconv {
namespace ort {

constexpr uint32_t kApiVersion = 17;

// Positions in the table, counted in the published header.
enum Slot {
  kCreateStatus = 0,
  kCreateCustomOpDomain = 26,
  kCustomOpDomainAdd = 27,
  kAddCustomOpDomain = 28,
  kGetTensorMutableData = 51,
  kGetDimensionsCount = 61,
  kGetDimensions = 62,
  kGetTensorTypeAndShape = 65,
  kKernelInfoGetAttributeFloat = 85,
  kKernelInfoGetAttributeInt64 = 86,
  kKernelInfoGetAttributeString = 87,
  kKernelContextGetInputCount = 88,
  kKernelContextGetInput = 90,
  kKernelContextGetOutput = 91,
  kReleaseTensorTypeAndShapeInfo = 99,
  kReleaseStatus = 93,
  kKernelContextParallelFor = 274,
};

// Typed calls into the table; every method is one call of ONNX Runtime.
class Api {
 public:
  explicit Api(const OrtApi* table) : table_(reinterpret_cast<void* const*>(table)) {}

  OrtStatus* error(OrtErrorCode code, const char* message) const {
    return at<OrtStatus* (*)(OrtErrorCode, const char*)>(kCreateStatus)(code, message);
  }
  OrtStatus* create_domain(const char* name, OrtCustomOpDomain** domain) const {
    return at<OrtStatus* (*)(const char*, OrtCustomOpDomain**)>(kCreateCustomOpDomain)(name, domain);
  }
  OrtStatus* add(OrtCustomOpDomain* domain, const OrtCustomOp* op) const {
    return at<OrtStatus* (*)(OrtCustomOpDomain*, const OrtCustomOp*)>(kCustomOpDomainAdd)(domain, op);
  }
  OrtStatus* add(OrtSessionOptions* options, OrtCustomOpDomain* domain) const {
    return at<OrtStatus* (*)(OrtSessionOptions*, OrtCustomOpDomain*)>(kAddCustomOpDomain)(options, domain);
  }
  OrtStatus* attribute(const OrtKernelInfo* info, const char* name, float* value) const {
    return at<OrtStatus* (*)(const OrtKernelInfo*, const char*, float*)>(kKernelInfoGetAttributeFloat)(
        info, name, value);
  }
  OrtStatus* attribute(const OrtKernelInfo* info, const char* name, int64_t* value) const {
    return at<OrtStatus* (*)(const OrtKernelInfo*, const char*, int64_t*)>(kKernelInfoGetAttributeInt64)(
        info, name, value);
  }
  OrtStatus* attribute(const OrtKernelInfo* info, const char* name, std::string* value) const {
    char text[128];
    size_t size = sizeof text;  // of the text with its final zero, afterwards
    OrtStatus* status = at<OrtStatus* (*)(const OrtKernelInfo*, const char*, char*, size_t*)>(
        kKernelInfoGetAttributeString)(info, name, text, &size);
    if (status == nullptr) value->assign(text, size - 1);
    return status;
  }
  OrtStatus* inputs(const OrtKernelContext* context, size_t* count) const {
    return at<OrtStatus* (*)(const OrtKernelContext*, size_t*)>(kKernelContextGetInputCount)(context, count);
  }
  OrtStatus* input(const OrtKernelContext* context, size_t index, const OrtValue** value) const {
    return at<OrtStatus* (*)(const OrtKernelContext*, size_t, const OrtValue**)>(kKernelContextGetInput)(
        context, index, value);
  }
  OrtStatus* output(OrtKernelContext* context, size_t index, const int64_t* dims, size_t rank,
                    OrtValue** value) const {
    return at<OrtStatus* (*)(OrtKernelContext*, size_t, const int64_t*, size_t, OrtValue**)>(
        kKernelContextGetOutput)(context, index, dims, rank, value);
  }
  OrtStatus* data(const OrtValue* value, void** address) const {
    return at<OrtStatus* (*)(const OrtValue*, void**)>(kGetTensorMutableData)(value, address);
  }
  OrtStatus* shape(const OrtValue* value, OrtTensorTypeAndShapeInfo** info) const {
    return at<OrtStatus* (*)(const OrtValue*, OrtTensorTypeAndShapeInfo**)>(kGetTensorTypeAndShape)(value,
                                                                                                    info);
  }
  OrtStatus* rank(const OrtTensorTypeAndShapeInfo* info, size_t* rank) const {
    return at<OrtStatus* (*)(const OrtTensorTypeAndShapeInfo*, size_t*)>(kGetDimensionsCount)(info, rank);
  }
  OrtStatus* dimensions(const OrtTensorTypeAndShapeInfo* info, int64_t* dims, size_t rank) const {
    return at<OrtStatus* (*)(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t)>(kGetDimensions)(info, dims,
                                                                                                  rank);
  }
  void release(OrtTensorTypeAndShapeInfo* info) const {
    at<void (*)(OrtTensorTypeAndShapeInfo*)>(kReleaseTensorTypeAndShapeInfo)(info);
  }
  void release(OrtStatus* status) const { at<void (*)(OrtStatus*)>(kReleaseStatus)(status); }
  OrtStatus* parallel_for(const OrtKernelContext* context, void (*body)(void*, size_t), size_t total,
                          void* data) const {
    // 0 batches: the runtime hands out one task at a time, to whichever thread is free.
    return at<OrtStatus* (*)(const OrtKernelContext*, void (*)(void*, size_t), size_t, size_t, void*)>(
        kKernelContextParallelFor)(context, body, total, 0, data);
  }

 private:
  template <typename Function>
  Function at(Slot slot) const {
    return reinterpret_cast<Function>(table_[slot]);
  }

  void* const* table_;
};

}  // namespace ort
}  // namespace scconv
