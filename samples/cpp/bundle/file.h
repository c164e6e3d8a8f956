// A file -> its bytes, or its SHA-256.
#pragma once

#include <filesystem>
#include <string>

namespace bundle {

// Failure where the file cannot be read.
std::string read_file(const std::filesystem::path& file);

// As a manifest has it: 64 hexadecimal digits.
std::string sha256(const std::filesystem::path& file);

}  // namespace bundle
