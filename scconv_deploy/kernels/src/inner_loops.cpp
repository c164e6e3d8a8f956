// The inner loops, compiled once per instruction set: the build gives SCCONV_BUILD (a name) and the flags.
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

const Kernels SCCONV_JOIN(kernels_, SCCONV_BUILD) = {
    SCCONV_TEXT(SCCONV_BUILD),
    {moments<float>, moments<Half>},
    {SCCONV_ALL_GATES(float), SCCONV_ALL_GATES(Half)},
    {sum<float>, sum<Half>},
    {{combine<float, false>, combine<float, true>}, {combine<Half, false>, combine<Half, true>}},
    joint_weights,
    pair_weights,
};

}  // namespace scconv
