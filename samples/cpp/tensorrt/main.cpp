// A bundle's folder -> its plan in TensorRT, on the bundle's own golden samples.
//
//   run_bundle BUNDLE
//
// Exit codes: 0 the golden outputs are reproduced, 1 they are not, 2 the bundle or the command line cannot be used,
// 3 something is missing here (a GPU, a driver, the plan's own version of TensorRT).
//
// Unproved on a GPU as of 2026-11-23: compiled against the headers of TensorRT 10.14 and run on stand-ins for TensorRT
// and CUDA (tests/samples/tensorrt_stand_in.cpp), since no machine with a GPU was at hand.
#include "failure.h"
#include "plan.h"
#include "reproduce.h"

namespace {

bool body(int count, char** words) {
  if (count != 2) throw bundle::bad_input("name the bundle's folder: run_bundle BUNDLE");
  const bundle::Bundle opened = bundle::open_bundle(words[1]);
  if (opened.runtime != gpu::kRuntime) {
    throw bundle::bad_input(std::string(words[1]) + " is a bundle for " + opened.runtime + ", this program for " +
                            gpu::kRuntime);
  }
#if defined(TRT_MAJOR_RTX)
  // TensorRT's own plans carry our kernels; those of TensorRT for RTX call plugins that only Python registers.
  if (opened.form == "plugin") {
    throw bundle::missing(std::string(words[1]) + " needs plugins that this program does not have; export it with "
                          "--form standard, or run it with scconv_deploy.open");
  }
#endif
  gpu::require_device();
  gpu::Plan plan(opened);
  const std::string title = opened.precision + ", " + opened.form + " form, " + gpu::kRuntime + " " +
                            std::to_string(getInferLibVersion());
  return bundle::reproduce(opened, title, [&](const bundle::Arrays& inputs) { return plan.run(inputs); });
}

}  // namespace

int main(int count, char** words) {
  return bundle::guarded([&] { return body(count, words); });
}
