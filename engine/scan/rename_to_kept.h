// SPDX-License-Identifier: MIT
// What lies under a name that a scan writes to and may be somebody's work.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "runtime/base/files.h"

namespace gradlibra {

// Renames `file` to the first of FILE.kept_1, FILE.kept_2, .. that is free, and returns that: behind a name that a
// table's ending follows no more, so that a list of *.csv does not take it up. WriteError.
inline std::filesystem::path rename_to_kept(const std::filesystem::path& file) {
  namespace fs = std::filesystem;
  std::error_code error;
  for (int i = 1;; ++i) {
    fs::path aside = fmt::format("{}.kept_{}", file.string(), i);
    if (fs::exists(fs::symlink_status(aside, error))) continue;
    fs::rename(file, aside, error);
    if (error)
      throw WriteError(fmt::format("{}: is in the way, and cannot be renamed: {}", file.string(), error.message()));
    return aside;
  }
}

}  // namespace gradlibra
