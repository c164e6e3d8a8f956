// A bundle's folder -> its manifest, checked, and its golden samples.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "array.h"

namespace bundle {

// One axis: its size, or the name of a size that is free.
struct Axis {
  std::string name;  // empty where the size is fixed
  std::int64_t size = -1;
};

// Shapes that an input takes together with the others' in the same place.
struct Bounds {
  Shape minimum, maximum;
};

// An input or output of the model, as the manifest describes it.
struct End {
  std::string name;
  Element element = Element::kFloat32;
  std::vector<Axis> axes;
  std::vector<Bounds> bounds;                         // one per profile; empty where nothing is bounded
  std::map<std::size_t, std::int64_t> multiple_of;  // axis -> what its size must be a multiple of
};

// How far results may lie from the golden outputs: atol + rtol * (largest magnitude of the golden output).
struct Tolerance {
  std::string metric = "max_abs";  // or p99_abs, mean_abs
  double atol = 0.0;
  double rtol = 0.0;
};

struct Bundle {
  std::filesystem::path folder;
  std::string runtime;  // onnxruntime, tensorrt, tensorrt-rtx, openvino
  std::string form;     // standard or plugin
  std::string precision;
  std::filesystem::path artifact;
  std::vector<End> inputs, outputs;
  Tolerance tolerance;
  Arrays golden_inputs, golden_outputs;  // in the types that the manifest names
};

// Opens a bundle; every file must have the SHA-256 that the manifest lists. Failure says what is wrong otherwise.
Bundle open_bundle(const std::filesystem::path& folder);

// "image float32 [batch, 1, 8, 8]"
std::string describe(const End& end);

// Whether the model takes these inputs, by the manifest alone.
bool takes(const Bundle& bundle, const Arrays& inputs);

// The name of the inputs' common first axis where that is free: the batch.
std::optional<std::string> batch_axis(const Bundle& bundle);

}  // namespace bundle
