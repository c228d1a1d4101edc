// SPDX-License-Identifier: MIT
// The pictures of a folder that has no annotations, each with an id of its own; and what was passed over.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace gradlibra {

struct FolderImage {
  std::string id;              // UTF-8, unique: the name without extension; with it where two would be alike
  std::filesystem::path path;  // below a folder the id has the folder in front ("sub/a")
};

struct ImageFolder {
  std::vector<FolderImage> images;               // sorted by path
  int64_t in_subfolders = 0;                     // pictures in folders that were not gone into
  std::map<std::string, int64_t> cannot_decode;  // by extension: this build lacks the library
  std::map<std::string, int64_t> not_pictures;   // by extension ("" is none)
  // By their paths below the folder: what may be meant, but is not gone into or read.
  std::vector<std::string> linked_folders, hidden_folders, not_files;  // the last: pictures by name; pipes, sockets, ..
  std::string output;               // the folder that is written to, where it is inside
  std::vector<std::string> broken;  // a sentence each: links to nothing, folders that may not be read

  // "left out: 3 pictures in subfolders (--recursive takes them); 2 .tif (..)"; empty if nothing was but `broken`.
  [[nodiscard]] std::string left_out() const;
};

// `input` is a folder or one picture. Folders that are links are named, not followed: a link may lead back up. So are
// hidden ones (.ipynb_checkpoints), and `output`, whose pictures were drawn and not given. std::runtime_error if there
// is no such thing, or it holds no picture; the message says what it holds instead.
[[nodiscard]] ImageFolder list_images(const std::filesystem::path& input, bool recursive,
                                      const std::filesystem::path& output = {});

}  // namespace gradlibra
