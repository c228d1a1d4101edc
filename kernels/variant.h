// SPDX-License-Identifier: MIT
// Two ways to do one thing, until a GPU has said which is faster: then the other goes, and with the last one this file.
#pragma once

#include <cstdlib>

namespace gradlibra::kernels {

// GRADLIBRA_<name> in the environment as a number, `otherwise` where it is not set. Read at every call, so that a test may set it.
inline int variant(const char* variable, int otherwise) {
  const char* value = std::getenv(variable);
  return value != nullptr && value[0] != '\0' ? std::atoi(value) : otherwise;
}

}  // namespace gradlibra::kernels
