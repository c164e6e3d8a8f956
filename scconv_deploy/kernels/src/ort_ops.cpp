#include "ort_ops.h"

#include <memory>
#include <new>
#include <string>

#include "fuse.h"
#include "ort_tensors.h"
#include "sru.h"

namespace scconv {
namespace ort {
namespace {

OrtElementType element(Type type) { return type == kFloat ? ORT_FLOAT : ORT_FLOAT16; }

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

// What both operators answer in the same way. `Op` brings `Kernel`, `takes_activation` (whether an input is of
// type T), `inputs` and `kOutputs`.
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

struct SruOp;

struct SruKernel {
  SruKernel(const SruOp& op, Api api) : op(op), api(api) {}
  OrtStatus* configure(const OrtKernelInfo* info);
  OrtStatus* compute(OrtKernelContext* context) const;

  const SruOp& op;
  Api api;
  Layout layout;
  int64_t groups = 0;
  float epsilon = 0.0f;
  float logit = 0.0f;
};

struct SruOp : Described<SruOp> {
  using Kernel = SruKernel;
  static constexpr size_t kOutputs = 2;
  SruForm form;

  bool takes_activation(size_t index) const { return index == 0; }

  SruOp(SruForm form, Type type) : form(form) {
    static const char* const kNames[kGates] = {"hard", "soft", "complement_soft", "static"};
    this->type = type;
    name = std::string("SRU_") + kNames[form.gate] + (form.standard_deviation ? "_std" : "") +
           (form.at_least ? "_ge" : "") + (form.normalised ? "_normalised" : "") +
           (form.within ? "_within" : "");
    inputs = 3 + (form.normalised ? 1 : 0) + (form.gate == kStatic ? 1 : 0);
  }
};

OrtStatus* SruKernel::configure(const OrtKernelInfo* info) {
  SCCONV_RETURN_IF(api.attribute(info, "groups", &groups));
  SCCONV_RETURN_IF(api.attribute(info, "epsilon", &epsilon));
  if (op.form.gate != kStatic) SCCONV_RETURN_IF(api.attribute(info, "logit", &logit));
  if (groups < 1) return refuse(api, "%s: groups is %lld", op.name.c_str(), static_cast<long long>(groups));
  return layout.configure(api, info, op.name, op.type);
}

OrtStatus* SruKernel::compute(OrtKernelContext* context) const {
  Tensor x;
  SCCONV_RETURN_IF(read(api, context, 0, &x));
  if (x.rank != kRank) return refuse(api, "%s: x has %zu axes, not 4", op.name.c_str(), x.rank);
  Sru sru;
  sru.form = op.form;
  sru.type = op.type;
  sru.batch = static_cast<size_t>(x.dims[0]);
  sru.channels = static_cast<size_t>(x.dims[1]);
  sru.plane = static_cast<size_t>(x.dims[2] * x.dims[3]);
  sru.groups = static_cast<size_t>(groups);
  sru.epsilon = epsilon;
  sru.logit = logit;
  if (sru.channels % 2 != 0 || sru.channels * sru.plane % sru.groups != 0) {
    return refuse(api, "%s: %zu channels of %zu values cannot be cut into halves and %zu groups",
                  op.name.c_str(), sru.channels, sru.plane, sru.groups);
  }
  sru.block = layout.block;
  if (sru.block != 0 && (sru.channels / 2 % sru.block != 0 || sru.channels % sru.groups != 0)) {
    return refuse(api, "%s: halves of %zu channels cannot be cut into blocks of %zu, or not into %zu groups",
                  op.name.c_str(), sru.channels, sru.block, sru.groups);
  }
  size_t next = 1;
  SCCONV_RETURN_IF(read_constant(api, context, next++, sru.channels, &sru.scale));
  SCCONV_RETURN_IF(read_constant(api, context, next++, sru.channels, &sru.shift));
  if (op.form.normalised) {
    SCCONV_RETURN_IF(read_constant(api, context, next++, sru.channels, &sru.weight));
  }
  if (op.form.gate == kStatic) {
    SCCONV_RETURN_IF(read_constant(api, context, next++, sru.channels, &sru.mask));
  }
  sru.x = x.data;
  SCCONV_RETURN_IF(make(api, context, 0, x.dims, sru.channels / 2, &sru.y_a));
  SCCONV_RETURN_IF(make(api, context, 1, x.dims, sru.channels / 2, &sru.y_b));
  scconv::compute(sru, *layout.loops, ContextThreads(api, context));
  return nullptr;
}

struct FuseOp;

struct FuseKernel {
  FuseKernel(const FuseOp& op, Api api) : op(op), api(api) {}
  OrtStatus* configure(const OrtKernelInfo* info);
  OrtStatus* compute(OrtKernelContext* context) const;

  const FuseOp& op;
  Api api;
  Layout layout;
};

struct FuseOp : Described<FuseOp> {
  using Kernel = FuseKernel;
  static constexpr size_t kOutputs = 1;
  FuseForm form;

  bool takes_activation(size_t index) const { return index < 2 || (form.added && index + 1 == inputs); }

  FuseOp(FuseForm form, Type type) : form(form) {
    this->type = type;
    name = std::string("CRUFuse_") + (form.pair ? "pair" : "joint") + (form.affine ? "_affine" : "") +
           (form.added ? "_add" : "") + (form.relu ? "_relu" : "");
    inputs = 2 + (form.affine ? 2 : 0) + (form.added ? 1 : 0);
  }
};

OrtStatus* FuseKernel::configure(const OrtKernelInfo* info) {
  return layout.configure(api, info, op.name, op.type);
}

OrtStatus* FuseKernel::compute(OrtKernelContext* context) const {
  Tensor y1, y2, added;
  SCCONV_RETURN_IF(read(api, context, 0, &y1));
  SCCONV_RETURN_IF(read(api, context, 1, &y2));
  if (op.form.added) SCCONV_RETURN_IF(read(api, context, op.inputs - 1, &added));
  if (!y1.is_image_like(y2) || (op.form.added && !y1.is_image_like(added))) {
    return refuse(api, "%s: %s are not of one (N, C, H, W) shape", op.name.c_str(),
                  op.form.added ? "y1, y2 and what is added" : "y1 and y2");
  }
  Fuse fuse;
  fuse.form = op.form;
  fuse.type = op.type;
  fuse.batch = static_cast<size_t>(y1.dims[0]);
  fuse.channels = static_cast<size_t>(y1.dims[1]);
  fuse.plane = static_cast<size_t>(y1.dims[2] * y1.dims[3]);
  fuse.block = layout.block;
  if (fuse.block != 0 && fuse.channels % fuse.block != 0) {
    return refuse(api, "%s: %zu channels cannot be cut into blocks of %zu", op.name.c_str(), fuse.channels,
                  fuse.block);
  }
  if (op.form.affine) {
    SCCONV_RETURN_IF(read_constant(api, context, 2, fuse.channels, &fuse.scale));
    SCCONV_RETURN_IF(read_constant(api, context, 3, fuse.channels, &fuse.shift));
  }
  fuse.y1 = y1.data;
  fuse.y2 = y2.data;
  fuse.added = added.data;
  SCCONV_RETURN_IF(make(api, context, 0, y1.dims, fuse.channels, &fuse.out));
  scconv::compute(fuse, *layout.loops, ContextThreads(api, context));
  return nullptr;
}

struct Operators {
  std::vector<std::unique_ptr<SruOp>> sru;
  std::vector<std::unique_ptr<FuseOp>> fuse;
  std::vector<const OrtCustomOp*> all;

  Operators() {
    for (int bits = 0; bits < kGates * 16; ++bits) {
      SruForm form;
      form.gate = static_cast<Gate>(bits / 16);
      form.standard_deviation = bits & 1;
      form.at_least = bits & 2;
      form.normalised = bits & 4;
      form.within = bits & 8;
      // A static mask was compared at export.
      if (form.gate == kStatic && form.at_least) continue;
      for (Type type : {kFloat, kHalf}) sru.emplace_back(new SruOp(form, type));
    }
    for (int bits = 0; bits < 16; ++bits) {
      FuseForm form;
      form.pair = bits & 1;
      form.affine = bits & 2;
      form.relu = bits & 4;
      form.added = bits & 8;
      for (Type type : {kFloat, kHalf}) fuse.emplace_back(new FuseOp(form, type));
    }
    for (const auto& op : sru) all.push_back(op.get());
    for (const auto& op : fuse) all.push_back(op.get());
  }
};

}  // namespace

const std::vector<const OrtCustomOp*>& operators() {
  // Never destroyed: sessions may outlive the order in which a process tears down its globals.
  static const Operators* const made = new Operators;
  return made->all;
}

}  // namespace ort
}  // namespace scconv
