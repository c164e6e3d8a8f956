#include "ort_block.h"

#include <string>

#include "block.h"
#include "forms.h"
#include "ort_operator.h"

namespace scconv {
namespace ort {
namespace {

struct BlockOp;

struct BlockKernel {
  BlockKernel(const BlockOp& op, Api api) : op(op), api(api) {}
  OrtStatus* configure(const OrtKernelInfo* info);
  OrtStatus* compute(OrtKernelContext* context) const;

  OrtStatus* read_shapes(OrtKernelContext* context, Block* block, Tensor* x) const;
  OrtStatus* check(const Block& block) const;
  OrtStatus* read_constants(OrtKernelContext* context, Block* block) const;
  // x, SRU's constants, four of the squeezes, five of the branches, and what the fuse takes.
  size_t after_sru() const { return 3 + (sru.normalised ? 1 : 0) + (sru.gate == kStatic ? 1 : 0); }
  size_t inputs() const { return after_sru() + 9 + (fuse.affine ? 2 : 0) + (fuse.added ? 1 : 0); }

  const BlockOp& op;
  Api api;
  Layout layout;
  SruForm sru;
  FuseForm fuse;
  int64_t groups = 0, gwc_groups = 0, kernel = 0, copied_from = 0;
  float epsilon = 0.0f, logit = 0.0f;
};

// All inputs are one variadic list: how many there are follows from the attributes.
struct BlockOp : Described<BlockOp> {
  using Kernel = BlockKernel;
  static constexpr size_t kOutputs = 1;

  bool takes_activation(size_t) const { return true; }

  BlockOp() {
    name = "Block";
    inputs = 1;
    GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return ORT_VARIADIC; };
  }
};

OrtStatus* BlockKernel::configure(const OrtKernelInfo* info) {
  std::string sru_name, fuse_name;
  SCCONV_RETURN_IF(api.attribute(info, "sru", &sru_name));
  SCCONV_RETURN_IF(api.attribute(info, "fuse", &fuse_name));
  if (!find_form(sru_forms(), sru_name, &sru) || !find_form(fuse_forms(), fuse_name, &fuse)) {
    return refuse(api, "Block: there is no %s, or no %s", sru_name.c_str(), fuse_name.c_str());
  }
  SCCONV_RETURN_IF(api.attribute(info, "groups", &groups));
  SCCONV_RETURN_IF(api.attribute(info, "epsilon", &epsilon));
  if (sru.gate != kStatic) SCCONV_RETURN_IF(api.attribute(info, "logit", &logit));
  SCCONV_RETURN_IF(api.attribute(info, "gwc_groups", &gwc_groups));
  SCCONV_RETURN_IF(api.attribute(info, "kernel", &kernel));
  SCCONV_RETURN_IF(api.attribute(info, "y2_copied_from", &copied_from));
  if (groups < 1 || gwc_groups < 1 || copied_from < 0 || kernel < 1 || kernel % 2 == 0 ||
      kernel > static_cast<int64_t>(kLargestKernel)) {
    return refuse(api, "Block: %lld and %lld groups, a kernel of %lld and a copy from %lld are not possible",
                  static_cast<long long>(groups), static_cast<long long>(gwc_groups),
                  static_cast<long long>(kernel), static_cast<long long>(copied_from));
  }
  SCCONV_RETURN_IF(layout.configure(api, info, op.name, op.type));
  return layout.block != 0 ? nullptr : refuse(api, "Block: the attribute `block` is missing");
}

OrtStatus* BlockKernel::read_shapes(OrtKernelContext* context, Block* block, Tensor* x) const {
  size_t given = 0;
  SCCONV_RETURN_IF(api.inputs(context, &given));
  if (given != inputs())
    return refuse(api, "Block: %zu inputs are given and %zu are needed", given, inputs());
  SCCONV_RETURN_IF(read(api, context, 0, x));
  if (x->rank != kRank) return refuse(api, "Block: x has %zu axes, not 4", x->rank);
  Sru& unit = block->sru;
  unit.form = sru;
  unit.batch = static_cast<size_t>(x->dims[0]);
  unit.channels = static_cast<size_t>(x->dims[1]);
  block->height = static_cast<size_t>(x->dims[2]);
  block->width = static_cast<size_t>(x->dims[3]);
  unit.plane = block->height * block->width;
  unit.groups = static_cast<size_t>(groups);
  unit.block = layout.block;
  unit.epsilon = epsilon;
  unit.logit = logit;
  unit.x = x->data;
  block->fuse = fuse;
  block->groups = static_cast<size_t>(gwc_groups);
  block->kernel = static_cast<size_t>(kernel);
  block->copied_from = static_cast<size_t>(copied_from);
  // Biases say how many channels there are.
  size_t next = after_sru();
  size_t weights = 0;
  SCCONV_RETURN_IF(read_size(api, context, next, &weights));
  SCCONV_RETURN_IF(read_size(api, context, next + 1, &block->up));
  SCCONV_RETURN_IF(read_size(api, context, next + 3, &block->low));
  SCCONV_RETURN_IF(read_size(api, context, next + 6, &block->outputs));
  block->up_inputs = block->up == 0 ? 0 : weights / block->up;
  return check(*block);
}

OrtStatus* BlockKernel::check(const Block& block) const {
  const size_t b = layout.block, channels = block.sru.channels;
  const auto fills = [b](size_t count) { return count > 0 && count % b == 0; };
  if (!fills(channels / 2) || channels % 2 != 0 || !fills(block.up) || !fills(block.low) ||
      !fills(block.outputs) || channels % block.sru.groups != 0) {
    return refuse(api,
                  "Block: %zu, %zu, %zu and %zu channels do not fill blocks of %zu in halves and %zu groups",
                  channels, block.up, block.low, block.outputs, b, block.sru.groups);
  }
  if (block.outputs % (block.groups * b) != 0 || block.up % block.groups != 0) {
    return refuse(api, "Block: %zu outputs of %zu channels in %zu groups do not fill blocks of %zu",
                  block.outputs, block.up, block.groups, b);
  }
  if (!fills(block.up_inputs) || block.up_inputs >= channels) {
    return refuse(api, "Block: a squeeze of %zu of %zu channels is not possible", block.up_inputs, channels);
  }
  const bool is_copied = block.copied_from + block.low == block.outputs && block.copied_from % b == 0;
  if (block.copied_from != block.outputs && !is_copied) {
    return refuse(api, "Block: %zu channels cannot be copied to the end of %zu from %zu on", block.low,
                  block.outputs, block.copied_from);
  }
  return nullptr;
}

OrtStatus* BlockKernel::read_constants(OrtKernelContext* context, Block* block) const {
  Sru& unit = block->sru;
  const size_t c = unit.channels, outputs = block->outputs, up = block->up;
  const struct {
    size_t values;
    const float** at;
    bool is_there;
  } constants[] = {
      {c, &unit.scale, true},
      {c, &unit.shift, true},
      {c, &unit.weight, sru.normalised},
      {c, &unit.mask, sru.gate == kStatic},
      {up * block->up_inputs, &block->squeeze_up, true},
      {up, &block->squeeze_up_bias, true},
      {block->low * (c - block->up_inputs), &block->squeeze_low, true},
      {block->low, &block->squeeze_low_bias, true},
      {outputs * block->kernel * block->kernel * (up / block->groups), &block->gwc, true},
      {outputs * up, &block->pwc1, true},
      {outputs, &block->y1_bias, true},
      {outputs * block->low, &block->y2, true},
      {outputs, &block->y2_bias, true},
      {outputs, &block->scale, fuse.affine},
      {outputs, &block->shift, fuse.affine},
  };
  size_t next = 1;
  for (const auto& constant : constants) {
    if (!constant.is_there) continue;
    SCCONV_RETURN_IF(read_constant(api, context, next++, constant.values, constant.at));
  }
  return nullptr;
}

OrtStatus* BlockKernel::compute(OrtKernelContext* context) const {
  Block block;
  Tensor x;
  SCCONV_RETURN_IF(read_shapes(context, &block, &x));
  SCCONV_RETURN_IF(read_constants(context, &block));
  if (fuse.added) {
    Tensor added;
    SCCONV_RETURN_IF(read(api, context, inputs() - 1, &added));
    Tensor made = x;
    made.dims[1] = static_cast<int64_t>(block.outputs);
    if (!made.is_image_like(added)) return refuse(api, "Block: what is added is not of the result's shape");
    block.added = static_cast<const float*>(added.data);
  }
  void* out = nullptr;
  SCCONV_RETURN_IF(make(api, context, 0, x.dims, block.outputs, &out));
  block.out = static_cast<float*>(out);
  scconv::compute(block, *layout.loops, ContextThreads(api, context));
  return nullptr;
}

}  // namespace

const OrtCustomOp& block_operator() {
  // Never destroyed, as the others.
  static const BlockOp* const made = new BlockOp;
  return *made;
}

}  // namespace ort
}  // namespace scconv
