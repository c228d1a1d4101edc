// SPDX-License-Identifier: MIT
// Where the drawings of a data set's images go.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <vector>

#include "data/datasets/dataset.h"

namespace gradlibra {

// FOLDER/ID.png for each of the first `count` images. Ids are names from outside, absolute paths and `..` among them:
// every file lies below the folder, without the root and with "up" for "..", and no two are the same or have to be a
// folder for another; where they would be, " (2)" follows the name. An id that is a plain relative path keeps it.
// std::runtime_error if a drawing would lie beside images of the data set, which it could overwrite.
[[nodiscard]] std::vector<std::filesystem::path> picture_files(const std::filesystem::path& folder,
                                                               const std::vector<ImageRecord>& images,
                                                               size_t count = std::numeric_limits<size_t>::max());

}  // namespace gradlibra
