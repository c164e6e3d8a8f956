// A bundle and something that runs its model -> a table of how far its results lie from the golden outputs.
#pragma once

#include <functional>
#include <string>

#include "bundle.h"

namespace bundle {

// Named arrays in, named arrays out.
using Run = std::function<Arrays(const Arrays&)>;

// Runs the golden samples as they are and, where the first axis is free, a batch of three of them. Prints one table
// with `title` over it; true where every output agrees. A NaN agrees with nothing.
bool reproduce(const Bundle& bundle, const std::string& title, const Run& run);

// What main() does: `body`, its Failure as one sentence on stderr, and an exit code.
int guarded(const std::function<bool()>& body);

}  // namespace bundle
