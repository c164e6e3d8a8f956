// SRU and the fuse over (N, H*W, C): the layout of OpenVINO's convolutions here, seen through a Transpose.
//
// The forms and their arithmetic are those of ../src (sru.h, fuse.h, gate.h, norm.h); only the walk differs.
#pragma once

#include <memory>

#include "fuse.h"
#include "sru.h"

namespace scconv {

// What the activations are stored in; `type` of Sru and Fuse is not read here.
enum Element { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

// sru.x is (N, plane, C), sru.y_a and sru.y_b are (N, plane, C/2). Any number of groups that divides C * plane;
// groups that cut a channel are slower.
void compute_channels_last(const Sru& sru, Element element, const Parallel& parallel);

// The same for one sample, step by step: every stretch is measured, then the sample normalised, then its rows are
// gated, any of them, in any order.
class SruSteps {
 public:
  virtual ~SruSteps() = default;
  virtual size_t stretches() const = 0;
  virtual void measure(size_t stretch) = 0;
  virtual void normalise() = 0;
  virtual void gate(size_t first_row, size_t rows, void* y_a, void* y_b) const = 0;
};

// `sru` must live as long as the steps; its batch is 1, and y_a and y_b are not read.
std::unique_ptr<SruSteps> sru_steps(const Sru& sru, Element element);

// Every tensor is (N, plane, C). Where `y1_rest` is there, Y1 is fuse.y1 + y1_rest: a convolution that adds
// another's result in place would need a Transpose behind it that OpenVINO really carries out. fuse.form.added is
// not taken.
void compute_channels_last(const Fuse& fuse, const void* y1_rest, Element element, const Parallel& parallel);

}  // namespace scconv
