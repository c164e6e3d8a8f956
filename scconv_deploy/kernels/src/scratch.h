// Memory that a thread keeps between calls, so that a call allocates nothing once the sizes have been seen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace scconv {

// Whose memory it is: a task runs on a thread that may be using its own for the whole call.
enum Purpose { kForCall = 0, kForSample = 1, kForTask = 2, kForSecond = 3 };

// At least `count` values, not initialised anew; valid until the same thread asks again for the same T and
// purpose.
template <typename T, Purpose kPurpose = kForCall>
T* scratch(size_t count) {
  static thread_local std::vector<T> kept;
  if (kept.size() < count) kept.resize(count);
  return kept.data();
}

// The same where whole vectors are loaded: from a multiple of 64 bytes on.
template <Purpose kPurpose>
float* aligned_scratch(size_t count) {
  float* from = scratch<float, kPurpose>(count + 16);
  return from + (64 - reinterpret_cast<uintptr_t>(from) % 64) % 64 / sizeof(float);
}

}  // namespace scconv
