// SPDX-License-Identifier: MIT
#include "data/datasets/walk_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

// Whether `path` is `folder` or lies in it; both are canonical.
bool lies_in(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

class Walker {
 public:
  explicit Walker(const fs::path& top) : top_(top) {}

  FolderWalk run() {
    go_through("", /*hidden=*/false);
    // Links to folders come last: what is reached both ways has the name without a link.
    while (!links_.empty()) {
      std::vector<std::string> links;
      links.swap(links_);
      std::sort(links.begin(), links.end());
      for (const std::string& link : links) follow(link);
    }
    for (auto* list : {&result_.files, &result_.broken_links, &result_.hidden_files})
      std::sort(list->begin(), list->end());
    std::sort(result_.passed_over.begin(), result_.passed_over.end(),
              [](const auto& a, const auto& b) { return a.path < b.path; });
    return std::move(result_);
  }

 private:
  void pass_over(const std::string& path, const std::string& why) {
    result_.passed_over.push_back({path.empty() ? "." : path, why});
  }

  void go_through(const std::string& below, bool hidden) {
    std::error_code error;
    const fs::path folder = below.empty() ? top_ : top_ / below;
    const fs::path place = fs::canonical(folder, error);
    if (error) return pass_over(below, error.message());
    if (!hidden) {
      if (const auto [first, fresh] = visited_.emplace(place.string(), below); !fresh)
        return pass_over(below, fmt::format("is the folder '{}', whose files count once", first->second));
    }
    fs::directory_iterator entry(folder, error);
    for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
      const std::string name = entry->path().filename().string();
      look_at(*entry, below.empty() ? name : below + "/" + name, hidden);
    }
    if (error) pass_over(below, error.message());
  }

  void look_at(const fs::directory_entry& entry, const std::string& path, bool hidden) {
    std::error_code ignored, error;
    const bool link = entry.is_symlink(ignored);
    const fs::file_status status = entry.status(error);  // of what a link leads to
    if (fs::is_directory(status)) {
      const bool dot = entry.path().filename().string().starts_with('.');
      if (!link)
        go_through(path, hidden || dot);
      else if (!hidden && !dot)
        links_.push_back(path);
    } else if (fs::is_regular_file(status)) {
      (hidden ? result_.hidden_files : result_.files).push_back(path);
    } else if (link && !fs::exists(status)) {
      if (!hidden) result_.broken_links.push_back(path);
    } else if (!fs::exists(status) && !hidden) {
      pass_over(path, error.message());
    }
  }

  void follow(const std::string& link) {
    std::error_code error;
    const fs::path target = fs::canonical(top_ / link, error);
    if (error) return pass_over(link, error.message());
    const fs::path parent = fs::canonical((top_ / link).parent_path(), error);
    const fs::path top = fs::canonical(top_, error);
    if (lies_in(parent, target) || lies_in(top, target))
      return pass_over(link, fmt::format("is a link to {}, a folder that holds it", target.string()));
    go_through(link, /*hidden=*/false);
  }

  const fs::path& top_;
  FolderWalk result_;
  std::vector<std::string> links_;              // to folders, not followed yet
  std::map<std::string, std::string> visited_;  // folders by their true paths, and how they were reached
};

}  // namespace

FolderWalk walk_folder(const fs::path& folder) { return Walker(folder).run(); }

std::string hidden_folder_of(const std::string& path) {
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = path.find('/', begin);
    if (end == std::string::npos) break;
    if (path[begin] == '.') return path.substr(0, end);
    begin = end + 1;
  }
  return path;
}

}  // namespace gradlibra
