// Scratch memory of a thread, kept between calls: a call allocates nothing once its sizes were seen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#if defined(SCCONV_GUARDED_SCRATCH)
#include <sanitizer/asan_interface.h>
#endif

namespace scconv {
namespace {

// Bytes between two arrays. Where the address sanitizer looks on, there are some, and it is told that they are no
// one's: it sees one allocation, within which each array could be left unseen.
#if defined(SCCONV_GUARDED_SCRATCH)
constexpr size_t kGuard = 64;
inline void forbid(const char* from, size_t bytes) { ASAN_POISON_MEMORY_REGION(from, bytes); }
inline void permit(const char* from, size_t bytes) { ASAN_UNPOISON_MEMORY_REGION(from, bytes); }
#else
constexpr size_t kGuard = 0;
inline void forbid(const char*, size_t) {}
inline void permit(const char*, size_t) {}
#endif

// Memory of a thread that outlives a call, aligned; what it holds is undefined.
class Arena {
 public:
  void reserve(size_t bytes) {
    used_ = 0;
    permit(memory_.data(), memory_.size());
    if (memory_.size() < bytes + 64) memory_.resize(bytes + 64);
    base_ = memory_.data() + (64 - reinterpret_cast<uintptr_t>(memory_.data()) % 64) % 64;
    forbid(memory_.data(), memory_.size());
  }
  template <typename T>
  static size_t bytes_of(size_t count) {
    return (count * sizeof(T) + 63) / 64 * 64 + kGuard;
  }
  template <typename T>
  T* take(size_t count) {
    T* found = reinterpret_cast<T*>(base_ + used_);
    permit(base_ + used_, count * sizeof(T));
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
