// SPDX-License-Identifier: MIT
// From the name that an annotation gives to the picture on disk: which files answer to it, and where it might be if
// none does.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

namespace gradlibra {

// The picture of a name.
struct FoundImage {
  std::filesystem::path path;                 // empty: there is none
  bool guessed = false;                       // not the very name: with an extension, or with the slashes of Windows
  std::vector<std::filesystem::path> others;  // further files that answer to it as well as `path` does
};

// Each folder is listed once, so that names with several possible extensions cost no look at the disk each.
class ImageFinder {
 public:
  // `folder`/`name` as it stands, with back slashes read as slashes, or with one of the known extensions (small letters
  // or capitals). A name that holds a NUL byte finds nothing.
  [[nodiscard]] FoundImage find(const std::filesystem::path& folder, const std::string& name);
  // Regular files of `folder` with the stem of `name` (a path below it) and a known extension, or the very name.
  [[nodiscard]] std::vector<std::filesystem::path> of_stem(const std::filesystem::path& folder,
                                                           const std::string& name);

  // What might have been meant by a name that leads nowhere, as a clause for a message: the same name in other capitals
  // or with another extension in that folder, or the folder below `root` where a file of that name lies. Or nothing.
  [[nodiscard]] std::string suggestion(const std::filesystem::path& folder, const std::string& name,
                                       const std::filesystem::path& root);

 private:
  using Names = std::unordered_map<std::string, std::vector<std::string>>;  // small-letter stem to file names
  [[nodiscard]] const Names& listed(const std::filesystem::path& folder);
  [[nodiscard]] std::filesystem::path below(const std::filesystem::path& root, const std::string& file_name);

  std::map<std::filesystem::path, Names> folders_;
  bool searched_ = false;                                               // below the root
  std::unordered_map<std::string, std::filesystem::path> first_below_;  // file name to the first of that name
};

}  // namespace gradlibra
