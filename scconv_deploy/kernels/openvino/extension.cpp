// The operators scconv::SRU and scconv::CRUFuse for OpenVINO, on tensors of (N, H, W, C).
//
// SRU      x, scale, shift [, weight][, mask] -> y_a, y_b; one type for every form, told by its attributes.
// CRUFuse  y1, y2 [, y1's rest][, scale, shift] -> out. Activations are f32, f16 or bf16, constants f32.
#include <openvino/core/extension.hpp>
#include <openvino/core/op_extension.hpp>

#include "block_op.h"
#include "operators.h"

namespace scconv {

class SruOp : public ov::op::Op {
 public:
  OPENVINO_OP("SRU", "scconv");
  SruOp() = default;
  SruOp(const ov::OutputVector& inputs, const SruOp& like)
      : Op(inputs), attributes_(like.attributes_) {
    constructor_validate_and_infer_types();
  }

  void validate_and_infer_types() override {
    const size_t inputs = attributes_.inputs();
    NODE_VALIDATION_CHECK(this, get_input_size() == inputs, "SRU takes ", inputs, " inputs in this form");
    NODE_VALIDATION_CHECK(this, is_known(get_input_element_type(0)), "SRU takes f32, f16 or bf16");
    NODE_VALIDATION_CHECK(this, attributes_.valid(), "SRU's attributes are damaged");
    ov::PartialShape half = get_input_partial_shape(0);
    NODE_VALIDATION_CHECK(this, half.rank().is_static() && half.size() == 4 && half[3].is_static() &&
                                    half[3].get_length() % 2 == 0,
                          "SRU takes (N, H, W, C) with a known, even C, not ", half);
    for (size_t i = 1; i < inputs; ++i) {
      NODE_VALIDATION_CHECK(this, is_per_channel(*this, i, half[3]), "SRU's constants are f32, one per channel");
    }
    half[3] = half[3].get_length() / 2;
    set_output_size(2);
    set_output_type(0, get_input_element_type(0), half);
    set_output_type(1, get_input_element_type(0), half);
  }

  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
    return std::make_shared<SruOp>(inputs, *this);
  }

  bool visit_attributes(ov::AttributeVisitor& visitor) override {
    attributes_.visit(visitor);
    return true;
  }

  bool has_evaluate() const override { return true; }

  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
    size_t next = 1;
    Sru sru = attributes_.sru(inputs[0], [&] { return static_cast<const float*>(inputs[next++].data()); });
    ov::Shape shape = inputs[0].get_shape();
    shape[3] /= 2;
    for (auto& output : outputs) output.set_shape(shape);
    sru.y_a = outputs[0].data();
    sru.y_b = outputs[1].data();
    compute_channels_last(sru, element_of(inputs[0].get_element_type()), Threads());
    return true;
  }

 private:
  SruAttributes attributes_;
};

class FuseOp : public ov::op::Op {
 public:
  OPENVINO_OP("CRUFuse", "scconv");
  FuseOp() = default;
  FuseOp(const ov::OutputVector& inputs, const FuseOp& like)
      : Op(inputs), pair_(like.pair_), affine_(like.affine_), parts_(like.parts_), relu_(like.relu_) {
    constructor_validate_and_infer_types();
  }

  void validate_and_infer_types() override {
    const size_t activations = parts_ ? 3 : 2, inputs = activations + (affine_ ? 2 : 0);
    NODE_VALIDATION_CHECK(this, get_input_size() == inputs, "CRUFuse takes ", inputs, " inputs in this form");
    NODE_VALIDATION_CHECK(this, is_known(get_input_element_type(0)), "CRUFuse takes f32, f16 or bf16");
    ov::PartialShape shape = get_input_partial_shape(0);
    for (size_t i = 0; i < activations; ++i) {
      NODE_VALIDATION_CHECK(this, get_input_element_type(0) == get_input_element_type(i) &&
                                      ov::PartialShape::merge_into(shape, get_input_partial_shape(i)) &&
                                      shape.rank().is_static() && shape.size() == 4,
                            "CRUFuse takes tensors of one (N, H, W, C) shape and one type");
    }
    for (size_t i = activations; i < inputs; ++i) {
      NODE_VALIDATION_CHECK(this, is_per_channel(*this, i, shape[3]),
                            "CRUFuse's scale and shift are f32, one per channel");
    }
    set_output_type(0, get_input_element_type(0), shape);
  }

  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
    return std::make_shared<FuseOp>(inputs, *this);
  }

  bool visit_attributes(ov::AttributeVisitor& visitor) override {
    visitor.on_attribute("pair", pair_);
    visitor.on_attribute("affine", affine_);
    visitor.on_attribute("parts", parts_);
    visitor.on_attribute("relu", relu_);
    return true;
  }

  bool has_evaluate() const override { return true; }

  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
    const ov::Shape shape = inputs[0].get_shape();
    Fuse fuse;
    fuse.form.pair = pair_;
    fuse.form.relu = relu_;
    fuse.form.affine = affine_;
    fuse.batch = shape[0];
    fuse.plane = shape[1] * shape[2];
    fuse.channels = shape[3];
    fuse.y1 = inputs[0].data();
    fuse.y2 = inputs[1].data();
    const size_t constants = parts_ ? 3 : 2;
    if (affine_) {
      fuse.scale = static_cast<const float*>(inputs[constants].data());
      fuse.shift = static_cast<const float*>(inputs[constants + 1].data());
    }
    outputs[0].set_shape(shape);
    fuse.out = outputs[0].data();
    const void* rest = parts_ ? inputs[2].data() : nullptr;
    compute_channels_last(fuse, rest, element_of(inputs[0].get_element_type()), Threads());
    return true;
  }

 private:
  bool pair_ = false, affine_ = false, parts_ = false, relu_ = false;
};

}  // namespace scconv

OPENVINO_CREATE_EXTENSIONS(std::vector<ov::Extension::Ptr>(
    {std::make_shared<ov::OpExtension<scconv::SruOp>>(), std::make_shared<ov::OpExtension<scconv::FuseOp>>(),
     std::make_shared<ov::OpExtension<scconv::BlockOp>>()}));
