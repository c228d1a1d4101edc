// SPDX-License-Identifier: MIT
#include "data/datasets/find_image.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/datasets/did_you_mean.h"
#include "data/images/image.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

bool is_file(const fs::path& file) {
  std::error_code error;
  return fs::is_regular_file(file, error);
}

// The name without a known extension.
std::string stem_of(const std::string& name) { return format_by_name(name) ? fs::path(name).stem().string() : name; }

std::string slashed(std::string name) {
  std::replace(name.begin(), name.end(), '\\', '/');
  return name;
}

}  // namespace

const ImageFinder::Names& ImageFinder::listed(const fs::path& folder) {
  const auto [entry, fresh] = folders_.try_emplace(folder);
  if (!fresh) return entry->second;
  std::error_code error;
  for (fs::directory_iterator file(folder, error), end; !error && file != end; file.increment(error)) {
    std::string name = file->path().filename().string();
    std::string stem = lower_case(stem_of(name));
    entry->second[std::move(stem)].push_back(std::move(name));
  }
  for (auto& [stem, names] : entry->second) std::sort(names.begin(), names.end());
  return entry->second;
}

std::vector<fs::path> ImageFinder::of_stem(const fs::path& folder, const std::string& name) {
  const fs::path whole = folder / name;
  const std::string wanted = whole.filename().string();
  std::vector<fs::path> files;
  const Names& names = listed(whole.parent_path());
  // The name may hold an extension itself (x.jpg.png has the stem x.jpg).
  for (const std::string& key : {lower_case(wanted), lower_case(stem_of(wanted))}) {
    const auto found = names.find(key);
    if (found == names.end()) continue;
    for (const std::string& file : found->second) {
      const bool answers = file == wanted || (format_by_name(file) && fs::path(file).stem().string() == wanted);
      const fs::path path = whole.parent_path() / file;
      if (answers && std::find(files.begin(), files.end(), path) == files.end() && is_file(path)) files.push_back(path);
    }
  }
  return files;
}

FoundImage ImageFinder::find(const fs::path& folder, const std::string& name) {
  if (name.empty() || name.find('\0') != std::string::npos) return {};
  if (is_file(folder / name)) return {folder / name, false, {}};
  for (const std::string& spelled : {name, slashed(name)}) {
    if (is_file(folder / spelled)) return {folder / spelled, true, {}};
    std::vector<fs::path> files = of_stem(folder, spelled);
    if (files.empty()) continue;
    // By the order of the known extensions, so that a .jpg comes before a .png.
    const auto rank = [](const fs::path& file) {
      const std::string extension = lower_case(file.extension().string());
      return std::find_if(kImageExtensions.begin(), kImageExtensions.end(),
                          [&](const ImageExtension& known) { return extension == known.text; });
    };
    std::stable_sort(files.begin(), files.end(),
                     [&](const fs::path& a, const fs::path& b) { return rank(a) < rank(b); });
    return {files.front(), true, {files.begin() + 1, files.end()}};
  }
  return {};
}

fs::path ImageFinder::below(const fs::path& root, const std::string& file_name) {
  if (!searched_) {
    searched_ = true;
    constexpr size_t kMostFiles = 200'000;  // a suggestion is not worth more
    size_t seen = 0;
    std::error_code error;
    for (fs::recursive_directory_iterator file(root, fs::directory_options::skip_permission_denied, error), end;
         !error && file != end && seen < kMostFiles; file.increment(error), ++seen) {
      if (format_by_name(file->path())) first_below_.emplace(file->path().filename().string(), file->path());
    }
  }
  const auto found = first_below_.find(file_name);
  return found == first_below_.end() ? fs::path() : found->second;
}

std::string ImageFinder::suggestion(const fs::path& folder, const std::string& name, const fs::path& root) {
  if (name.find('\0') != std::string::npos) return "; the name holds a NUL byte";
  const std::string spelled = slashed(name);
  const fs::path whole = folder / spelled;
  const Names& names = listed(whole.parent_path());
  if (const auto found = names.find(lower_case(stem_of(whole.filename().string()))); found != names.end()) {
    std::string listing;
    if (std::find(found->second.begin(), found->second.end(), whole.filename().string()) != found->second.end())
      return "; it is there, but no file that can be read (a broken link?)";
    for (const std::string& file : found->second) {
      const fs::path path = whole.parent_path() / file;
      if (std::error_code error; fs::is_symlink(path, error) && !fs::exists(path, error))
        return fmt::format("; there is '{}', a link that leads to nothing", escaped(file));
    }
    for (const std::string& file : found->second) listing += (listing.empty() ? "'" : ", '") + escaped(file) + "'";
    return "; there is " + listing + ", with another extension or other capitals";
  }
  std::error_code error;
  const bool is_there = fs::is_directory(folder, error);
  const std::string no_folder = is_there ? "" : "; there is no such folder";
  // Exports write the path of another machine, and data.image_dir may be the wrong folder.
  const std::string last = fs::path(spelled).filename().string();
  if (is_file(folder / last))
    return fmt::format("; {} is there, without the folders in its name", (folder / last).string());
  for (const ImageExtension& known : kImageExtensions) {
    const fs::path elsewhere = below(root, format_by_name(last) ? last : last + known.text);
    if (elsewhere.empty()) continue;
    return fmt::format("{}; one of that name lies in {}: set data.image_dir to '{}'?", no_folder,
                       elsewhere.parent_path().string(), elsewhere.parent_path().lexically_relative(root).string());
  }
  return is_there ? "" : no_folder + ": is data.image_dir right?";
}

}  // namespace gradlibra
