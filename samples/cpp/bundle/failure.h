// What went wrong, in one sentence, and the exit code that scripts see: the codes of scconv-export.
#pragma once

#include <stdexcept>
#include <string>

namespace bundle {

constexpr int kSuccess = 0;
constexpr int kDiffers = 1;   // the model runs and gives something else
constexpr int kBadInput = 2;  // the bundle or the command line cannot be used
constexpr int kMissing = 3;   // this machine lacks a library or a device

class Failure : public std::runtime_error {
 public:
  Failure(int code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
  int code() const { return code_; }

 private:
  int code_;
};

inline Failure bad_input(const std::string& sentence) { return Failure(kBadInput, sentence); }
inline Failure missing(const std::string& sentence) { return Failure(kMissing, sentence); }

}  // namespace bundle
