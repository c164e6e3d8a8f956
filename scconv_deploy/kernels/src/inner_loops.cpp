// The inner loops, compiled once per instruction set: the build gives SCCONV_BUILD (a name) and the flags.
#include "blocked.h"
#include "convolve.h"
#include "gate.h"
#include "pool.h"

#define SCCONV_JOIN_(a, b) a##b
#define SCCONV_JOIN(a, b) SCCONV_JOIN_(a, b)
#define SCCONV_TEXT_(a) #a
#define SCCONV_TEXT(a) SCCONV_TEXT_(a)

namespace scconv {

extern const Kernels SCCONV_JOIN(kernels_, SCCONV_BUILD);

#define SCCONV_REACHES(T, gate, normalised, within)                                              \
  {gate_run<T, gate, normalised, within, kNarrow>, gate_run<T, gate, normalised, within, kWide>, \
   gate_run<T, gate, normalised, within, kAnywhere>}
// A hard gate takes no sigmoid.
#define SCCONV_ONE_REACH(T, gate, normalised, within)                                                  \
  {gate_run<T, gate, normalised, within, kAnywhere>, gate_run<T, gate, normalised, within, kAnywhere>, \
   gate_run<T, gate, normalised, within, kAnywhere>}
#define SCCONV_FORMS(form, T, gate)                              \
  {                                                              \
    {form(T, gate, false, false), form(T, gate, false, true)}, { \
      form(T, gate, true, false), form(T, gate, true, true)      \
    }                                                            \
  }
#define SCCONV_ALL_GATES(T)                                                          \
  {SCCONV_FORMS(SCCONV_ONE_REACH, T, kHard), SCCONV_FORMS(SCCONV_REACHES, T, kSoft), \
   SCCONV_FORMS(SCCONV_REACHES, T, kComplementSoft), SCCONV_FORMS(SCCONV_REACHES, T, kStatic)}

#define SCCONV_BLOCK_REACHES(V, gate, normalised, within)                                          \
  {block_gate<V, gate, normalised, within, kNarrow>, block_gate<V, gate, normalised, within, kWide>, \
   block_gate<V, gate, normalised, within, kAnywhere>}
#define SCCONV_BLOCK_ONE_REACH(V, gate, normalised, within)                                                \
  {block_gate<V, gate, normalised, within, kAnywhere>, block_gate<V, gate, normalised, within, kAnywhere>, \
   block_gate<V, gate, normalised, within, kAnywhere>}
#define SCCONV_BLOCKED(V)                                                                        \
  {block_moments<V>,                                                                             \
   block_sums<V>,                                                                                \
   {SCCONV_FORMS(SCCONV_BLOCK_ONE_REACH, V, kHard), SCCONV_FORMS(SCCONV_BLOCK_REACHES, V, kSoft), \
    SCCONV_FORMS(SCCONV_BLOCK_REACHES, V, kComplementSoft),                                      \
    SCCONV_FORMS(SCCONV_BLOCK_REACHES, V, kStatic)},                                             \
   {{block_combine<V, false, false>, block_combine<V, false, true>},                             \
    {block_combine<V, true, false>, block_combine<V, true, true>}},                             \
   block_products<V>,                                                                            \
   convolve<(V) * kLanes>}

namespace {

#if SCCONV_LANES <= 8
const BlockedKernels kBlocksOf8 = SCCONV_BLOCKED(8 / kLanes);
constexpr const BlockedKernels* kHasBlocksOf8 = &kBlocksOf8;
#else
constexpr const BlockedKernels* kHasBlocksOf8 = nullptr;
#endif
const BlockedKernels kBlocksOf16 = SCCONV_BLOCKED(16 / kLanes);

}  // namespace

#define SCCONV_COMBINE(T) \
  {{combine<T, false, false>, combine<T, false, true>}, {combine<T, true, false>, combine<T, true, true>}}

const Kernels SCCONV_JOIN(kernels_, SCCONV_BUILD) = {
    SCCONV_TEXT(SCCONV_BUILD),
    {moments<float>, moments<Half>},
    {SCCONV_ALL_GATES(float), SCCONV_ALL_GATES(Half)},
    {sum<float>, sum<Half>},
    {SCCONV_COMBINE(float), SCCONV_COMBINE(Half)},
    joint_weights,
    pair_weights,
    kHasBlocksOf8,
    &kBlocksOf16,
};

}  // namespace scconv
