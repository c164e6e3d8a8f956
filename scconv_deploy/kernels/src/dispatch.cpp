// Which build of the inner loops runs: the best this CPU can, asked once.
#include <atomic>
#include <cstring>

#include "kernels.h"

namespace scconv {

extern const Kernels kernels_plain;
#if defined(SCCONV_X86_BUILDS)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif

namespace {

struct Build {
  const Kernels* kernels;
  bool (*runs_here)();
};

bool always() { return true; }

#if defined(SCCONV_X86_BUILDS)
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

// Fastest first.
const Build kBuilds[] = {
#if defined(SCCONV_X86_BUILDS)
    {&kernels_avx512, has_avx512},
    {&kernels_avx2, has_avx2},
#endif
    {&kernels_plain, always},
};

const Kernels* best() {
  for (const Build& build : kBuilds) {
    if (build.runs_here()) return build.kernels;
  }
  return &kernels_plain;
}

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> kernels{best()};
  return kernels;
}

}  // namespace

const Kernels& kernels() { return *chosen().load(std::memory_order_relaxed); }

const Kernels* kernels_for(size_t block) {
  if (kernels().blocked(block) != nullptr) return &kernels();
  for (const Build& build : kBuilds) {
    if (build.kernels->blocked(block) != nullptr && build.runs_here()) return build.kernels;
  }
  return nullptr;
}

bool select_kernels(const char* name) {
  for (const Build& build : kBuilds) {
    if (std::strcmp(build.kernels->name, name) == 0 && build.runs_here()) {
      chosen().store(build.kernels, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

}  // namespace scconv
