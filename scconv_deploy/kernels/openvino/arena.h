// Scratch memory of a thread, kept between calls: a call allocates nothing once its sizes were seen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace scconv {
namespace {

// Memory of a thread that outlives a call, aligned; what it holds is undefined.
class Arena {
 public:
  void reserve(size_t bytes) {
    used_ = 0;
    if (memory_.size() < bytes + 64) memory_.resize(bytes + 64);
    base_ = memory_.data() + (64 - reinterpret_cast<uintptr_t>(memory_.data()) % 64) % 64;
  }
  template <typename T>
  static size_t bytes_of(size_t count) {
    return (count * sizeof(T) + 63) / 64 * 64;
  }
  template <typename T>
  T* take(size_t count) {
    T* found = reinterpret_cast<T*>(base_ + used_);
    used_ += bytes_of<T>(count);
    return found;
  }

 private:
  std::vector<char> memory_;
  char* base_ = nullptr;
  size_t used_ = 0;
};

// An arena of this thread, for as long as the object lives. A stack of them: a thread that waits for others may be
// given another sample meanwhile.
class Borrowed {
 public:
  Borrowed() {
    if (depth() == stack().size()) stack().push_back(std::make_unique<Arena>());
    arena_ = stack()[depth()++].get();
  }
  ~Borrowed() { --depth(); }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  Arena& arena() const { return *arena_; }

 private:
  static std::vector<std::unique_ptr<Arena>>& stack() {
    static thread_local std::vector<std::unique_ptr<Arena>> arenas;
    return arenas;
  }
  static size_t& depth() {
    static thread_local size_t count = 0;
    return count;
  }
  Arena* arena_;
};

}  // namespace
}  // namespace scconv
