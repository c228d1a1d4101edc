// SPDX-License-Identifier: MIT
#include "engine/version.h"

namespace gradlibra {

std::string revision() { return GRADLIBRA_REVISION; }

std::string version_text() {
  std::string text = GRADLIBRA_VERSION;
  if (!revision().empty()) text += " (" + revision() + ")";
  return text;
}

}  // namespace gradlibra
