// SPDX-License-Identifier: MIT
// Checksums that a checkpoint carries in its own metadata: one for each tensor, one over everything else.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "runtime/base/safetensors.h"

namespace gradlibra {

// What metadata keys of the store begin with; nobody else may use such.
inline constexpr std::string_view kCheckpointKeys = "checkpoint.";

// Adds, as 16 hexadecimal digits of XXH64 with seed 0:
//   checkpoint.xxh64.<name>   over the tensor's bytes as they lie in the file
//   checkpoint.xxh64          over all other metadata and all that the header says of tensors: for each metadata key
//                             in ascending order `key NUL value NUL`, then for each tensor in ascending order
//                             `name NUL dtype NUL shape NUL`, the shape as "64,3,7,7" (empty for a scalar)
void add_checksums(const std::map<std::string, FileTensor>& tensors, std::map<std::string, std::string>& metadata);

// Whether there are any to verify: checkpoints have them, weights from elsewhere do not.
[[nodiscard]] bool has_checksums(const SafetensorsFile& file);

// Empty if the file is what was written; otherwise what is damaged. Knows the checksums of earlier versions
// (checkpoint.checksum, checkpoint.checksum.<name>), too.
[[nodiscard]] std::string checksum_problem(const SafetensorsFile& file);

}  // namespace gradlibra
