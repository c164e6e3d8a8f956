#include "ort_ops.h"

#include <memory>
#include <string>

#include "forms.h"
#include "ort_block.h"
#include "ort_operator.h"

namespace scconv {
namespace ort {
namespace {

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
    this->type = type;
    name = name_of(form);
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
    name = name_of(form);
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
    for (const SruForm& form : sru_forms()) {
      for (Type type : {kFloat, kHalf}) sru.emplace_back(new SruOp(form, type));
    }
    for (const FuseForm& form : fuse_forms()) {
      for (Type type : {kFloat, kHalf}) fuse.emplace_back(new FuseOp(form, type));
    }
    for (const auto& op : sru) all.push_back(op.get());
    for (const auto& op : fuse) all.push_back(op.get());
    all.push_back(&block_operator());
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
