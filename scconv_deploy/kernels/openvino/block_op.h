// The operator scconv::Block for OpenVINO: a whole SCConv block on (N, H, W, C), made by the runtime when it loads a
// model with SRU, convolutions and CRUFuse; no file holds one.
//
// Three inputs, since OpenVINO takes some 2 us to hand one over: x; every float in one row, the SRU's constants, then
// the biases of squeeze_up, squeeze_low, Y1 and Y2, then scale and shift with `affine`; every weight in one row, in the
// type of x: of squeeze_up, squeeze_low, Y1 (dense) and Y2, each (out, in, k, k).
#pragma once

#include <memory>
#include <mutex>

#include "whole_block.h"
#include "operators.h"

namespace scconv {

class BlockOp : public ov::op::Op {
 public:
  OPENVINO_OP("Block", "scconv");
  BlockOp() = default;
  BlockOp(const ov::OutputVector& inputs, const BlockOp& like)
      : Op(inputs),
        sru_(like.sru_),
        up_(like.up_),
        low_(like.low_),
        out_(like.out_),
        kernel_(like.kernel_),
        pair_(like.pair_),
        affine_(like.affine_),
        relu_(like.relu_) {
    constructor_validate_and_infer_types();
  }

  void validate_and_infer_types() override {
    NODE_VALIDATION_CHECK(this, sru_.valid() && get_input_size() == 3, "Block takes x, its floats and its weights");
    const ov::PartialShape& x = get_input_partial_shape(0);
    const bool is_image = x.rank().is_static() && x.size() == 4 && x[3].is_static();
    NODE_VALIDATION_CHECK(this, is_image && x[3].get_length() % 2 == 0, "Block takes (N, H, W, C) with a known, even C");
    const auto whole = [](int64_t value) { return value < 0 ? size_t{0} : static_cast<size_t>(value); };
    sizes_ = {whole(x[3].get_length()), whole(up_), whole(low_), whole(out_), whole(kernel_)};
    const auto& type = get_input_element_type(0);
    const size_t half = sizes_.channels / 2;
    first_[0] = 0;
    first_[1] = sizes_.up * half;
    first_[2] = first_[1] + sizes_.low * half;
    first_[3] = first_[2] + sizes_.out * sizes_.up * sizes_.kernel * sizes_.kernel;
    NODE_VALIDATION_CHECK(this, get_input_element_type(1) == ov::element::f32 && holds(1, floats()),
                          "Block takes ", floats(), " floats in this form");
    NODE_VALIDATION_CHECK(this, get_input_element_type(2) == type && holds(2, first_[3] + sizes_.out * sizes_.low),
                          "Block's weights do not fit its sizes");
    NODE_VALIDATION_CHECK(this, is_known(type) && has_block(element(), sizes_),
                          "this CPU has no kernel for a Block of these sizes in ", type);
    set_output_type(0, type, ov::PartialShape{x[0], x[1], x[2], out_});
  }

  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
    return std::make_shared<BlockOp>(inputs, *this);
  }

  bool visit_attributes(ov::AttributeVisitor& visitor) override {
    sru_.visit(visitor);
    visitor.on_attribute("up", up_);
    visitor.on_attribute("low", low_);
    visitor.on_attribute("out", out_);
    visitor.on_attribute("kernel", kernel_);
    visitor.on_attribute("pair", pair_);
    visitor.on_attribute("affine", affine_);
    visitor.on_attribute("relu", relu_);
    return true;
  }

  bool has_evaluate() const override { return true; }

  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
    ov::Shape shape = inputs[0].get_shape();
    Block block;
    const float* next = static_cast<const float*>(inputs[1].data());
    const auto take = [&](size_t count) {
      next += count;
      return next - count;
    };
    block.sru = sru_.sru(inputs[0], [&] { return take(sizes_.channels); });
    block.fuse.pair = pair_;
    block.fuse.affine = affine_;
    block.fuse.relu = relu_;
    block.height = shape[1];
    block.width = shape[2];
    const size_t columns[] = {sizes_.up, sizes_.low, sizes_.out, sizes_.out};
    for (size_t i = 0; i < 4; ++i) block.biases[i] = take(columns[i]);
    if (affine_) {
      block.scale = take(sizes_.out);
      block.shift = take(sizes_.out);
    }
    shape[3] = sizes_.out;
    outputs[0].set_shape(shape);
    block.out = outputs[0].data();
    block.threads = Threads::count();
    // The weights are constants: packed when they are first seen.
    std::call_once(is_packed_, [&] {
      const char* const data = static_cast<const char*>(inputs[2].data());
      const void* weights[4];
      for (size_t i = 0; i < 4; ++i) weights[i] = data + first_[i] * inputs[2].get_element_type().size();
      packed_ = make_block(element(), sizes_, weights);
    });
    packed_->run(block, Threads());
    return true;
  }

 private:
  Element element() const { return element_of(get_input_element_type(0)); }

  // How many floats the second input has.
  size_t floats() const {
    return (sru_.inputs() - 1) * sizes_.channels + sizes_.up + sizes_.low + (affine_ ? 4 : 2) * sizes_.out;
  }

  bool holds(size_t input, size_t count) const {
    const ov::PartialShape& shape = get_input_partial_shape(input);
    return shape.is_static() && ov::shape_size(shape.to_shape()) == count;
  }

  SruAttributes sru_;
  int64_t up_ = 0, low_ = 0, out_ = 0, kernel_ = 0;
  bool pair_ = false, affine_ = false, relu_ = false;
  BlockSizes sizes_{};
  size_t first_[4] = {};
  mutable std::once_flag is_packed_;
  mutable std::unique_ptr<BlockKernel> packed_;
};

}  // namespace scconv
