// Memory that a thread keeps between calls, so that a call allocates nothing once the sizes have been seen.
#pragma once

#include <cstddef>
#include <vector>

namespace scconv {

// At least `count` values, not initialised anew; valid until the same thread asks again for the same T.
template <typename T>
T* scratch(size_t count) {
  static thread_local std::vector<T> kept;
  if (kept.size() < count) kept.resize(count);
  return kept.data();
}

}  // namespace scconv
