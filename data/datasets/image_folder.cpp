// SPDX-License-Identifier: MIT
#include "data/datasets/image_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "data/datasets/did_you_mean.h"
#include "data/datasets/walk_folder.h"
#include "data/images/image.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

std::string listed(const std::map<std::string, int64_t>& counts) {
  std::string text;
  for (const auto& [extension, count] : counts)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count,
                        extension.empty() ? "without extension" : escaped(extension));
  return text;
}

// Short names first; all that share one take their whole file name instead. Those are all different, so it ends.
void name_apart(std::vector<FolderImage>& images, const fs::path& folder) {
  std::vector<bool> whole(images.size(), false);
  bool again = true;
  while (again) {
    again = false;
    std::map<std::string, int> uses;
    for (size_t i = 0; i < images.size(); ++i) {
      fs::path name = images[i].path.lexically_relative(folder);
      if (!whole[i]) name.replace_extension();
      images[i].id = escaped(name.string());
      ++uses[images[i].id];
    }
    for (size_t i = 0; i < images.size(); ++i) {
      if (uses[images[i].id] == 1 || whole[i]) continue;
      whole[i] = again = true;
    }
  }
}

}  // namespace

std::string ImageFolder::left_out() const {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "left out: " : "; ") + part; };
  if (in_subfolders > 0)
    add(fmt::format("{} picture{} in subfolders (--recursive takes them)", in_subfolders,
                    in_subfolders == 1 ? "" : "s"));
  if (in_hidden_folders > 0)
    add(fmt::format("{} picture{} in hidden folders", in_hidden_folders, in_hidden_folders == 1 ? "" : "s"));
  for (const std::string& what : passed_over) add(what);
  if (!cannot_decode.empty()) add(listed(cannot_decode) + " (this program was built without their libraries)");
  if (!not_pictures.empty()) add("no pictures by their names: " + listed(not_pictures));
  return text;
}

ImageFolder list_images(const fs::path& input, bool recursive) {
  ImageFolder result;
  std::error_code error;
  if (!fs::exists(input, error)) throw std::runtime_error(input.string() + ": no such file or folder");
  if (!fs::is_directory(input, error)) {
    result.images.push_back({escaped(input.stem().string()), input});
    return result;
  }
  const FolderWalk walk = walk_folder(input);
  for (const std::string& name : walk.files) {
    const fs::path file = input / name;
    const std::optional<ImageFormat> format = format_by_name(file);
    const std::string extension = lower_case(file.extension().string());
    if (!recursive && name.find('/') != std::string::npos) {
      result.in_subfolders += format.has_value();
    } else if (!format) {
      ++result.not_pictures[extension];
    } else if (!can_decode(*format)) {
      ++result.cannot_decode[extension];
    } else {
      result.images.push_back({"", file});
    }
  }
  for (const std::string& file : walk.hidden_files) result.in_hidden_folders += format_by_name(file).has_value();
  for (const std::string& link : walk.broken_links)
    result.passed_over.push_back(fmt::format("'{}', a link that leads to nothing", escaped(link)));
  for (const auto& [path, why] : walk.passed_over)
    result.passed_over.push_back(fmt::format("'{}' {}", escaped(path), why));
  if (result.images.empty()) {
    const std::string what = result.left_out();
    throw std::runtime_error(fmt::format("{}: holds no .jpg, .jpeg, .png, .bmp{}{} picture{}", input.string(),
                                         can_decode(ImageFormat::tiff) ? ", .tif, .tiff" : "",
                                         can_decode(ImageFormat::webp) ? ", .webp" : "",
                                         what.empty() ? "" : "; " + what));
  }
  std::sort(result.images.begin(), result.images.end(),
            [](const FolderImage& a, const FolderImage& b) { return a.path < b.path; });
  name_apart(result.images, input);
  return result;
}

}  // namespace gradlibra
