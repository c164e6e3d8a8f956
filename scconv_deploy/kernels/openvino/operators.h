// What the extension's operators share.
#pragma once

#include <openvino/op/op.hpp>

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include "channels_last.h"

namespace scconv {
namespace {

class Threads final : public Parallel {
 public:
  // In the arena of the thread that runs the graph, so with as many threads as the model was compiled for.
  void run(size_t tasks, Body body, void* data) const override {
    tbb::parallel_for(
        size_t{0}, tasks, [=](size_t task) { body(data, task); }, tbb::static_partitioner());
  }
  static size_t count() { return static_cast<size_t>(tbb::this_task_arena::max_concurrency()); }
};

inline Element element_of(const ov::element::Type& type) {
  return type == ov::element::f32 ? kFloat32 : type == ov::element::f16 ? kFloat16 : kBFloat16;
}

inline bool is_known(const ov::element::Type& type) {
  return type == ov::element::f32 || type == ov::element::f16 || type == ov::element::bf16;
}

// A constant of any shape with one float per channel: (C) or (C, 1, 1).
inline bool is_per_channel(const ov::Node& node, size_t input, const ov::Dimension& channels) {
  const ov::PartialShape& shape = node.get_input_partial_shape(input);
  return node.get_input_element_type(input) == ov::element::f32 && shape.is_static() && channels.is_static() &&
         ov::shape_size(shape.to_shape()) == static_cast<size_t>(channels.get_length());
}

// The SRU's structure, as attributes of an operator.
struct SruAttributes {
  int64_t gate = 0, groups = 1;
  bool standard_deviation = false, at_least = false, normalised = false, within = false;
  double epsilon = 0.0, logit = 0.0;

  void visit(ov::AttributeVisitor& visitor) {
    visitor.on_attribute("gate", gate);
    visitor.on_attribute("groups", groups);
    visitor.on_attribute("standard_deviation", standard_deviation);
    visitor.on_attribute("at_least", at_least);
    visitor.on_attribute("normalised", normalised);
    visitor.on_attribute("within", within);
    visitor.on_attribute("epsilon", epsilon);
    visitor.on_attribute("logit", logit);
  }

  bool valid() const { return groups >= 1 && gate >= 0 && gate < kGates; }

  // Inputs: x and the constants.
  size_t inputs() const { return 3 + (normalised ? 1 : 0) + (gate == kStatic ? 1 : 0); }

  // constant() gives the next of the SRU's constants.
  template <typename Constant>
  Sru sru(const ov::Tensor& x, const Constant& constant) const {
    const ov::Shape shape = x.get_shape();
    Sru sru;
    sru.form = {static_cast<Gate>(gate), standard_deviation, at_least, normalised, within};
    sru.batch = shape[0];
    sru.plane = shape[1] * shape[2];
    sru.channels = shape[3];
    sru.groups = static_cast<size_t>(groups);
    OPENVINO_ASSERT(sru.channels * sru.plane % sru.groups == 0, "SRU: ", shape, " cannot be cut into ", groups,
                    " groups");
    sru.epsilon = epsilon;
    sru.logit = static_cast<float>(logit);
    sru.scale = constant();
    sru.shift = constant();
    if (normalised) sru.weight = constant();
    if (gate == kStatic) sru.mask = constant();
    sru.x = x.data();
    return sru;
  }
};

}  // namespace
}  // namespace scconv
