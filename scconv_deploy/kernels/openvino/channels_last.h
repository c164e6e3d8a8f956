// SRU and the fuse over (N, H*W, C): the layout of OpenVINO's convolutions here, seen through a Transpose.
//
// The forms and their arithmetic are those of ../src (sru.h, fuse.h, gate.h, norm.h); only the walk differs.
#pragma once

#include "fuse.h"
#include "sru.h"

namespace scconv {

// What the activations are stored in; `type` of Sru and Fuse is not read here.
enum Element { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

// sru.x is (N, plane, C), sru.y_a and sru.y_b are (N, plane, C/2). Any number of groups that divides C * plane;
// groups that cut a channel are slower.
void compute_channels_last(const Sru& sru, Element element, const Parallel& parallel);

// Every tensor is (N, plane, C). Where `y1_rest` is there, Y1 is fuse.y1 + y1_rest: a convolution that adds
// another's result in place would need a Transpose behind it that OpenVINO really carries out. fuse.form.added is
// not taken.
void compute_channels_last(const Fuse& fuse, const void* y1_rest, Element element, const Parallel& parallel);

}  // namespace scconv
