// NumPy's .npz, a zip of .npy files, stored or deflated -> arrays by name.
#pragma once

#include <filesystem>

#include "array.h"

namespace bundle {

// Failure where the file cannot be read, is damaged, or has a layout that this reader does not know.
Arrays read_npz(const std::filesystem::path& file);

}  // namespace bundle
