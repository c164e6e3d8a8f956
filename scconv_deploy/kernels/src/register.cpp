// The library's entry points: what ONNX Runtime calls, and what Python asks through ctypes.
#include "kernels.h"
#include "ort_block.h"
#include "ort_ops.h"
#include "ort_tensors.h"

#if defined(_WIN32)
#define SCCONV_EXPORT extern "C" __declspec(dllexport)
#else
#define SCCONV_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace scconv {
namespace ort {
namespace {

OrtStatus* fill(const Api& api, OrtCustomOpDomain* domain) {
  for (const OrtCustomOp* op : operators()) SCCONV_RETURN_IF(api.add(domain, op));
  return nullptr;
}

}  // namespace
}  // namespace ort
}  // namespace scconv

// ONNX Runtime looks for this name in a custom operator library.
SCCONV_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  using namespace scconv::ort;
  const OrtApi* table = base->GetApi(kApiVersion);
  // Older than 1.17: there is no table to make an error with. The session then meets the functions.
  if (table == nullptr) return nullptr;
  const Api api(table);
  // A domain per call, never released: it must outlive every session made with these options, and the
  // options' owner is not told when that is. It is a hundred pointers.
  OrtCustomOpDomain* domain = nullptr;
  SCCONV_RETURN_IF(api.create_domain("scconv", &domain));
  SCCONV_RETURN_IF(fill(api, domain));
  return api.add(options, domain);
}

// Name of the build that runs here: "avx512", "avx2" or "plain".
SCCONV_EXPORT const char* scconv_instruction_set() { return scconv::kernels().name; }

// For tests: use this build in kernels made from now on. 0 where this CPU cannot.
SCCONV_EXPORT int scconv_select_instruction_set(const char* name) { return scconv::select_kernels(name); }

// Which attributes and inputs scconv::Block has here; a library without this function has no such operator.
SCCONV_EXPORT int scconv_block_version() { return scconv::ort::kBlockVersion; }
