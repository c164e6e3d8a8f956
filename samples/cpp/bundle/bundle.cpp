#include "bundle.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "failure.h"
#include "file.h"
#include "npz.h"

namespace bundle {
namespace {

using Json = nlohmann::json;

constexpr int kSchema = 1;
constexpr const char* kManifest = "manifest.json";
constexpr const char* kSamples = "samples.npz";
// Of a bundle that was exported with --no-verify, whose manifest names none: what fp32 is held to.
const Tolerance kUnverified = {"max_abs", 1e-6, 1e-3};
// On a GPU with TF32, in which the reference was not computed: what fp16 is held to.
const Tolerance kTf32 = {"p99_abs", 1e-4, 5e-2};

bool is_inside(const std::string& name) {
  const std::filesystem::path path(name);
  return !name.empty() && path.filename() == path && name != "." && name != "..";
}

void check_files(const std::filesystem::path& folder, const Json& manifest) {
  const Json& files = manifest.at("files");
  for (const std::string& name : {manifest.at("artifact").get<std::string>(), std::string(kSamples)}) {
    if (!files.contains(name)) throw bad_input(folder.string() + ": the manifest lists no " + name);
  }
  for (const auto& [name, entry] : files.items()) {
    if (!is_inside(name)) throw bad_input(folder.string() + ": the manifest lists '" + name + "', outside the bundle");
    if (sha256(folder / name) != entry.at("sha256").get<std::string>()) {
      throw bad_input((folder / name).string() + " was altered or damaged since the export (its SHA-256 differs)");
    }
  }
}

void add_bounds(const Json& json, std::vector<Bounds>& all) {
  Bounds bounds = {json.value("minimum", Shape()), json.value("maximum", Shape())};
  if (!bounds.minimum.empty()) all.push_back(std::move(bounds));
}

End read_end(const Json& json) {
  End end;
  end.name = json.at("name").get<std::string>();
  end.element = element_named(json.at("dtype").get<std::string>());
  for (const Json& axis : json.at("shape")) {
    end.axes.push_back(axis.is_string() ? Axis{axis.get<std::string>(), -1} : Axis{"", axis.get<std::int64_t>()});
  }
  for (const Json& profile : json.value("profiles", Json::array())) add_bounds(profile, end.bounds);
  if (end.bounds.empty()) add_bounds(json, end.bounds);
  const Json multiples = json.value("multiple_of", Json::object());
  for (const auto& [axis, multiple] : multiples.items()) {
    end.multiple_of[std::stoul(axis)] = multiple.get<std::int64_t>();
  }
  return end;
}

Tolerance read_tolerance(const Json& manifest) {
  const Json tensorrt = manifest.value("tensorrt", Json());
  const bool tf32 = tensorrt.is_object() && tensorrt.value("tf32", false);
  if (tf32 && manifest.at("precision").at("asked") == "fp32") return kTf32;
  const Json verification = manifest.value("verification", Json());
  if (!verification.is_object() || !verification.contains("tolerance")) return kUnverified;
  const Json& given = verification.at("tolerance");
  return {given.at("metric").get<std::string>(), given.at("atol").get<double>(), given.at("rtol").get<double>()};
}

Bundle read_manifest(const std::filesystem::path& folder) {
  const Json manifest = Json::parse(read_file(folder / kManifest));
  const int schema = manifest.at("schema_version").get<int>();
  if (schema != kSchema) {
    throw bad_input(folder.string() + " has manifest schema " + std::to_string(schema) + "; this sample reads " +
                    std::to_string(kSchema));
  }
  check_files(folder, manifest);
  Bundle bundle;
  bundle.folder = folder;
  bundle.runtime = manifest.at("runtime").get<std::string>();
  bundle.form = manifest.value("form", "standard");
  bundle.precision = manifest.at("precision").at("asked").get<std::string>();
  bundle.artifact = folder / manifest.at("artifact").get<std::string>();
  for (const Json& json : manifest.at("inputs")) bundle.inputs.push_back(read_end(json));
  for (const Json& json : manifest.at("outputs")) bundle.outputs.push_back(read_end(json));
  bundle.tolerance = read_tolerance(manifest);
  return bundle;
}

Arrays golden(const Arrays& all, const std::string& prefix, const std::vector<End>& ends) {
  Arrays chosen;
  for (const End& end : ends) {
    const auto found = all.find(prefix + end.name);
    if (found == all.end()) throw bad_input(std::string(kSamples) + " lacks " + prefix + end.name);
    chosen[end.name] = found->second;
  }
  return chosen;
}

bool fits(const End& end, const Shape& shape, const Bounds* bounds) {
  if (shape.size() != end.axes.size()) return false;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    const std::int64_t size = shape[axis];
    if (end.axes[axis].name.empty() && size != end.axes[axis].size) return false;
    const auto multiple = end.multiple_of.find(axis);
    if (multiple != end.multiple_of.end() && multiple->second > 0 && size % multiple->second != 0) return false;
    if (bounds == nullptr) continue;
    if (bounds->minimum.size() != shape.size() || bounds->maximum.size() != shape.size()) return false;
    if (size < bounds->minimum[axis] || size > bounds->maximum[axis]) return false;
  }
  return true;
}

}  // namespace

Bundle open_bundle(const std::filesystem::path& folder) {
  if (!std::filesystem::is_regular_file(folder / kManifest)) {
    throw bad_input(folder.string() + " is not a bundle: it has no " + kManifest);
  }
  Bundle bundle;
  try {
    bundle = read_manifest(folder);
  } catch (const Json::exception& error) {
    throw bad_input((folder / kManifest).string() + " is damaged: " + error.what());
  } catch (const std::logic_error& error) {  // an axis that is no number
    throw bad_input((folder / kManifest).string() + " is damaged: " + error.what());
  }
  const Arrays all = read_npz(folder / kSamples);
  bundle.golden_inputs = golden(all, "inputs.", bundle.inputs);
  bundle.golden_outputs = golden(all, "outputs.", bundle.outputs);
  // Stored as float32; what the model takes may be a half type.
  for (const End& end : bundle.inputs) {
    Array& array = bundle.golden_inputs[end.name];
    array = converted(array, end.element);
  }
  if (!takes(bundle, bundle.golden_inputs)) {
    throw bad_input(folder.string() + ": its golden inputs have shapes that its own manifest does not allow");
  }
  return bundle;
}

std::string describe(const End& end) {
  std::string axes;
  for (const Axis& axis : end.axes) {
    axes += (axes.empty() ? "" : ", ") + (axis.name.empty() ? std::to_string(axis.size) : axis.name);
  }
  return end.name + " " + name_of(end.element) + " [" + axes + "]";
}

bool takes(const Bundle& bundle, const Arrays& inputs) {
  std::size_t profiles = 1;
  for (const End& end : bundle.inputs) profiles = std::max(profiles, end.bounds.size());
  for (std::size_t profile = 0; profile < profiles; ++profile) {
    bool all = true;
    for (const End& end : bundle.inputs) {
      // An input without bounds, or with one set of them, is the same in every profile.
      const std::size_t index = end.bounds.size() > 1 ? profile : 0;
      const Bounds* bounds = index < end.bounds.size() ? &end.bounds[index] : nullptr;
      const auto found = inputs.find(end.name);
      all = all && found != inputs.end() && fits(end, found->second.shape, bounds);
    }
    if (all) return true;
  }
  return false;
}

std::optional<std::string> batch_axis(const Bundle& bundle) {
  std::optional<std::string> name;
  for (const End& end : bundle.inputs) {
    if (end.axes.empty() || end.axes[0].name.empty()) return std::nullopt;
    if (name && *name != end.axes[0].name) return std::nullopt;
    name = end.axes[0].name;
  }
  return name;
}

}  // namespace bundle
