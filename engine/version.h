// SPDX-License-Identifier: MIT
// Which program this is.
#pragma once

#include <string>

namespace gradlibra {

// The commit that the build folder was last configured at, abbreviated, with "-dirty" where files had been changed
// since; empty where that was no git checkout of this project.
[[nodiscard]] std::string revision();

// "0.1.0" or "0.1.0 (1a2b3c4d5)".
[[nodiscard]] std::string version_text();

}  // namespace gradlibra
