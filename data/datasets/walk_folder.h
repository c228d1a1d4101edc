// SPDX-License-Identifier: MIT
// Every file below a folder, links to folders followed, and what was passed over on the way.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace gradlibra {

// All paths are relative to the folder and sorted.
struct FolderWalk {
  std::vector<std::string> files;         // regular files, and links to such
  std::vector<std::string> broken_links;  // links that lead to nothing
  std::vector<std::string> hidden_files;  // those in folders whose names begin with a dot (.ipynb_checkpoints, .Trash)
  struct PassedOver {
    std::string path, why;
  };
  std::vector<PassedOver> passed_over;  // folders that were not gone into
};

// Each folder is gone through once, whatever ways lead there: a link to one that holds it, or to one that was met
// already, is passed over. Throws nothing of the file system's: what cannot be listed is passed over, too.
[[nodiscard]] FolderWalk walk_folder(const std::filesystem::path& folder);

// Of `path`, which walk_folder() gave as a hidden file, the hidden folder: "a/.trash" of "a/.trash/b/c".
[[nodiscard]] std::string hidden_folder_of(const std::string& path);

}  // namespace gradlibra
