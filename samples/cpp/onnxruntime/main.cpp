// A bundle's folder -> its model in ONNX Runtime, on the bundle's own golden samples.
//
//   run_bundle BUNDLE [--operators FILE] [--threads N] [--profile PREFIX]
//
// --operators (or SCCONV_OPERATORS) names our operator library, the one that scconv_deploy.kernels.loader.library()
// gives: a bundle of --form plugin then runs on the fused kernels. Without it, it runs on the functions that it
// carries: the same results, more slowly. Exit codes: 0 the golden outputs are reproduced, 1 they are not, 2 the bundle
// or the command line cannot be used, 3 something is missing here.
#include <onnxruntime_cxx_api.h>

#include <cstdlib>
#include <cstring>

#include "failure.h"
#include "reproduce.h"

namespace {

using namespace bundle;

constexpr const char* kUsage = "run_bundle BUNDLE [--operators FILE] [--threads N] [--profile PREFIX]";
constexpr const char* kRuntime = "onnxruntime";

struct Options {
  std::string folder;
  std::string operators;
  std::string profile;
  int threads = 0;  // 0: ONNX Runtime decides
};

int whole_number(const std::string& option, const std::string& word) {
  if (word.empty() || word.size() > 4 || word.find_first_not_of("0123456789") != std::string::npos) {
    throw bad_input(option + " takes a number, not '" + word + "'");
  }
  return std::stoi(word);
}

Options parse(int count, char** words) {
  Options options;
  if (const char* named = std::getenv("SCCONV_OPERATORS")) options.operators = named;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word.rfind("--", 0) != 0) {
      if (!options.folder.empty()) throw bad_input(std::string("name one bundle: ") + kUsage);
      options.folder = word;
      continue;
    }
    if (word != "--operators" && word != "--threads" && word != "--profile") {
      throw bad_input("there is no option " + word + ": " + kUsage);
    }
    if (++i == count) throw bad_input(word + " needs a value: " + kUsage);
    if (word == "--operators") options.operators = words[i];
    if (word == "--profile") options.profile = words[i];
    if (word == "--threads") options.threads = whole_number(word, words[i]);
  }
  if (options.folder.empty()) throw bad_input(std::string("name the bundle's folder: ") + kUsage);
  return options;
}

std::string first_line(const char* text) { return std::string(text, std::strcspn(text, "\r\n")); }

ONNXTensorElementDataType onnx_type(Element element) {
  switch (element) {
    case Element::kFloat16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case Element::kBfloat16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
    case Element::kFloat32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case Element::kFloat64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
    case Element::kInt32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    case Element::kInt64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    case Element::kUint8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    case Element::kBool: return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

// ONNX Runtime's functions, from whatever version of the library was found.
void start() {
  const OrtApiBase* base = OrtGetApiBase();
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    throw missing(std::string("the library of ONNX Runtime here is ") + base->GetVersionString() +
                  ", older than the headers this program was built with (1." + std::to_string(ORT_API_VERSION) + ")");
  }
  Ort::InitApi(api);
}

Ort::Session opened(const Ort::Env& environment, const Bundle& bundle, const Options& options) {
  Ort::SessionOptions settings;
  if (options.threads > 0) settings.SetIntraOpNumThreads(options.threads);
  if (!options.profile.empty()) settings.EnableProfiling(options.profile.c_str());
  if (!options.operators.empty()) {
    try {
      settings.RegisterCustomOpsLibrary(options.operators.c_str());
    } catch (const Ort::Exception& error) {
      throw bad_input("the operator library " + options.operators + " cannot be used: " + first_line(error.what()));
    }
  }
  try {
    return Ort::Session(environment, bundle.artifact.c_str(), settings);
  } catch (const Ort::Exception& error) {
    throw bad_input("ONNX Runtime cannot load " + bundle.artifact.string() + ": " + first_line(error.what()));
  }
}

Array array_of(const Ort::Value& value, const End& end) {
  const auto found = value.GetTensorTypeAndShapeInfo();
  if (found.GetElementType() != onnx_type(end.element)) {
    throw Failure(kDiffers, "output '" + end.name + "' is not " + name_of(end.element) + ", as the manifest says");
  }
  Array array = make_array(end.element, found.GetShape());
  if (!array.bytes.empty()) std::memcpy(array.bytes.data(), value.GetTensorRawData(), array.bytes.size());
  return array;
}

Arrays run(Ort::Session& session, const Bundle& bundle, const Arrays& inputs) {
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<const char*> input_names, output_names;
  std::vector<Ort::Value> given;
  for (const End& end : bundle.inputs) {
    const Array& array = inputs.at(end.name);
    input_names.push_back(end.name.c_str());
    // The tensor borrows the array, which ONNX Runtime does not write to.
    given.push_back(Ort::Value::CreateTensor(memory, const_cast<std::byte*>(array.bytes.data()), array.bytes.size(),
                                             array.shape.data(), array.shape.size(), onnx_type(array.element)));
  }
  for (const End& end : bundle.outputs) output_names.push_back(end.name.c_str());
  Arrays answers;
  try {
    const auto values = session.Run(Ort::RunOptions(), input_names.data(), given.data(), given.size(),
                                    output_names.data(), output_names.size());
    for (std::size_t i = 0; i < values.size(); ++i) answers[output_names[i]] = array_of(values[i], bundle.outputs[i]);
  } catch (const Ort::Exception& error) {
    throw bad_input("ONNX Runtime cannot run " + bundle.artifact.string() + ": " + first_line(error.what()));
  }
  return answers;
}

bool body(int count, char** words) {
  const Options options = parse(count, words);
  const Bundle bundle = open_bundle(options.folder);
  if (bundle.runtime != kRuntime) {
    throw bad_input(options.folder + " is a bundle for " + bundle.runtime + ", not for ONNX Runtime");
  }
  start();
  // What goes wrong comes back as an exception; the log would only say it twice.
  const Ort::Env environment(ORT_LOGGING_LEVEL_FATAL, "scconv");
  Ort::Session session = opened(environment, bundle, options);
  const std::string operators = options.operators.empty() ? "standard operators" : options.operators;
  const std::string title = bundle.precision + ", " + bundle.form + " form, ONNX Runtime " +
                            OrtGetApiBase()->GetVersionString() + ", " + operators;
  return reproduce(bundle, title, [&](const Arrays& inputs) { return run(session, bundle, inputs); });
}

}  // namespace

int main(int count, char** words) {
  return bundle::guarded([&] { return body(count, words); });
}
