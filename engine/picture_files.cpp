// SPDX-License-Identifier: MIT
#include "engine/picture_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <stdexcept>
#include <string>

#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

fs::path below(const std::string& id) {
  fs::path name;
  for (const fs::path& part : fs::path(escaped(id)).relative_path()) {
    if (part.empty() || part == ".") continue;
    name /= part == ".." ? fs::path("up") : part;
  }
  return name.empty() ? fs::path("image") : name;
}

// Links and ".." resolved; the path itself where that cannot be.
fs::path resolved(const fs::path& path) {
  std::error_code error;
  fs::path real = fs::weakly_canonical(path, error);
  return error ? path : real;
}

void refuse_beside_images(const std::vector<fs::path>& files, const std::vector<ImageRecord>& images) {
  std::set<fs::path> sources, targets;
  for (const ImageRecord& image : images) sources.insert(fs::absolute(image.path).parent_path());
  for (const fs::path& file : files) targets.insert(fs::absolute(file).parent_path());
  std::set<fs::path> real;
  for (const fs::path& source : sources) real.insert(resolved(source));
  for (const fs::path& target : targets)
    if (real.contains(resolved(target)))
      throw std::runtime_error(fmt::format(
          "{}: holds images of the data set, which drawings could overwrite: name another --output", target.string()));
}

}  // namespace

std::vector<fs::path> picture_files(const fs::path& folder, const std::vector<ImageRecord>& images, size_t count) {
  count = std::min(count, images.size());
  std::vector<fs::path> names(count), files(count);
  std::set<std::string> taken;  // files, and first of all the folders that they need
  for (size_t i = 0; i < count; ++i) {
    names[i] = below(images[i].id);
    for (fs::path up = names[i].parent_path(); !up.empty(); up = up.parent_path()) taken.insert(up.string());
  }
  // Whose id is a plain name has it before those that come to it by a detour.
  for (const bool plain : {true, false})
    for (size_t i = 0; i < count; ++i) {
      if ((names[i].string() == images[i].id) != plain) continue;
      std::string file = names[i].string() + ".png";
      for (int again = 2; !taken.insert(file).second; ++again)
        file = fmt::format("{} ({}).png", names[i].string(), again);
      files[i] = folder / file;
    }
  refuse_beside_images(files, images);
  return files;
}

}  // namespace gradlibra
