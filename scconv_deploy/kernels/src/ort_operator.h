// What the operators answer ONNX Runtime in the same way.
#pragma once

#include <memory>
#include <new>
#include <string>

#include "kernels.h"
#include "ort_tensors.h"

namespace scconv {
namespace ort {

inline OrtElementType element(Type type) { return type == kFloat ? ORT_FLOAT : ORT_FLOAT16; }

// The attribute `block`, and the loops for it. Only a runtime that blocked its tensors itself sets it (see
// runtime/blocked.py); no exported file has it.
struct Layout {
  size_t block = 0;
  const Kernels* loops = &kernels();

  OrtStatus* configure(const Api& api, const OrtKernelInfo* info, const std::string& name, Type type) {
    int64_t asked = 0;
    if (OrtStatus* status = api.attribute(info, "block", &asked)) {
      api.release(status);  // not there
      return nullptr;
    }
    const Kernels* found = type == kFloat && asked > 0 ? kernels_for(static_cast<size_t>(asked)) : nullptr;
    if (found == nullptr) {
      return refuse(api, "%s: blocks of %lld channels are not possible here in this type", name.c_str(),
                    static_cast<long long>(asked));
    }
    loops = found;
    block = static_cast<size_t>(asked);
    return nullptr;
  }
};

// What both operators answer in the same way. `Op` brings `Kernel`, `takes_activation` (whether an input is
// of type T), `inputs` and `kOutputs`.
template <typename Op>
struct Described : OrtCustomOp {
  std::string name;
  Type type = kFloat;
  size_t inputs = 0;

  Described() : OrtCustomOp{} {
    version = kApiVersion;
    GetName = [](const OrtCustomOp* op) { return self(op).name.c_str(); };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return "CPUExecutionProvider"; };
    GetInputTypeCount = [](const OrtCustomOp* op) { return self(op).inputs; };
    GetInputType = [](const OrtCustomOp* op, size_t index) {
      return self(op).takes_activation(index) ? element(self(op).type) : ORT_FLOAT;
    };
    GetOutputTypeCount = [](const OrtCustomOp*) { return Op::kOutputs; };
    GetOutputType = [](const OrtCustomOp* op, size_t) { return element(self(op).type); };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return ORT_REQUIRED; };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return ORT_REQUIRED; };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return ORT_DEFAULT_MEMORY; };
    GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
    GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
    GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
    GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return 0x7fffffff; };
    CreateKernelV2 = [](const OrtCustomOp* op, const OrtApi* table, const OrtKernelInfo* info,
                        void** kernel) -> OrtStatus* {
      std::unique_ptr<typename Op::Kernel> made(new (std::nothrow) typename Op::Kernel(self(op), Api(table)));
      if (made == nullptr) return Api(table).error(ORT_FAIL, "out of memory");
      SCCONV_RETURN_IF(made->configure(info));
      *kernel = made.release();
      return nullptr;
    };
    KernelComputeV2 = [](void* kernel, OrtKernelContext* context) -> OrtStatus* {
      const auto& made = *static_cast<const typename Op::Kernel*>(kernel);
      // No exception may leave through the C interface; the scratch memory is all that can throw.
      try {
        return made.compute(context);
      } catch (const std::bad_alloc&) {
        return made.api.error(ORT_FAIL, "out of memory");
      }
    };
    KernelDestroy = [](void* kernel) { delete static_cast<typename Op::Kernel*>(kernel); };
  }

  static const Op& self(const OrtCustomOp* op) { return *static_cast<const Op*>(op); }
};

}  // namespace ort
}  // namespace scconv
