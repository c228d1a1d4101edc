// SPDX-License-Identifier: MIT
#include "data/datasets/image_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "data/datasets/did_you_mean.h"
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

// "3 linked folders (a, b, c)": the first few by name.
std::string listed(const char* one, const char* many, const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  std::string text = fmt::format("{} {} (", names.size(), names.size() == 1 ? one : many);
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) text += (i > 0 ? ", " : "") + names[i];
  return text + (names.size() > kShown ? ", ..)" : ")");
}

// Short names first; all that share one take their whole file name instead, and where the spelling of bytes that are no
// text makes one of two, that with its own backslashes spelt as well. Those are all different, so it ends.
void name_apart(std::vector<FolderImage>& images, const fs::path& folder) {
  enum Form { kShort, kWhole, kSpelt };
  const auto named = [&](const FolderImage& image, Form form) {
    fs::path name = image.path.lexically_relative(folder);
    if (form == kShort) name.replace_extension();
    if (form != kSpelt) return escaped(name.string());
    std::string spelt;
    for (const char c : name.string()) spelt += c == '\\' ? std::string("\\x5c") : std::string(1, c);
    return escaped(spelt);
  };
  std::vector<Form> forms(images.size(), kShort);
  bool again = true;
  while (again) {
    again = false;
    std::map<std::string, int> uses;
    for (size_t i = 0; i < images.size(); ++i) {
      images[i].id = named(images[i], forms[i]);
      ++uses[images[i].id];
    }
    for (size_t i = 0; i < images.size(); ++i) {
      if (uses[images[i].id] == 1 || forms[i] == kSpelt) continue;
      forms[i] = forms[i] == kShort ? kWhole : kSpelt;
      again = true;
    }
  }
}

// One pass over a folder and what is below it.
class Walk {
 public:
  Walk(const fs::path& input, bool recursive, const fs::path& output)
      : input_(input), recursive_(recursive), output_(output) {}

  ImageFolder go() {
    folder(input_, 0);
    for (auto* names : {&result_.linked_folders, &result_.hidden_folders, &result_.not_files, &result_.broken})
      std::sort(names->begin(), names->end());
    return std::move(result_);
  }

 private:
  void folder(const fs::path& path, int depth) {
    std::error_code error;
    fs::directory_iterator entry(path, error), end;
    for (; !error && entry != end; entry.increment(error)) visit(*entry, depth);
    if (!error) return;
    if (depth == 0) throw std::runtime_error(fmt::format("{}: {}", path.string(), error.message()));
    if (recursive_) result_.broken.push_back(fmt::format("{}: {}", path.string(), error.message()));
  }

  void visit(const fs::directory_entry& entry, int depth) {
    std::error_code error;
    const fs::path& path = entry.path();
    const fs::file_status status = entry.status(error);
    const std::string name = escaped(path.lexically_relative(input_).string());
    if (fs::is_directory(status)) {
      if (!output_.empty() && fs::equivalent(path, output_, error)) {
        if (recursive_) result_.output = name;
      } else if (const bool hidden = path.filename().string().starts_with('.'); hidden || entry.is_symlink(error)) {
        if (recursive_ || depth == 0) (hidden ? result_.hidden_folders : result_.linked_folders).push_back(name);
      } else {
        folder(path, depth + 1);
      }
      return;
    }
    const std::optional<ImageFormat> format = format_by_name(path);
    const std::string extension = lower_case(path.extension().string());
    if (!recursive_ && depth > 0) {
      result_.in_subfolders += format.has_value() && fs::is_regular_file(status);
    } else if (!fs::exists(status) && (format || extension.empty())) {
      // A link without extension may have been one to a folder.
      result_.broken.push_back(path.string() + ": " +
                               (entry.is_symlink(error) ? "is a link that leads nowhere" : "cannot be looked at"));
    } else if (!format) {
      ++result_.not_pictures[extension];
    } else if (!fs::is_regular_file(status)) {
      result_.not_files.push_back(name);
    } else if (!can_decode(*format)) {
      ++result_.cannot_decode[extension];
    } else {
      result_.images.push_back({"", path});
    }
  }

  const fs::path& input_;
  const bool recursive_;
  const fs::path& output_;
  ImageFolder result_;
};

}  // namespace

std::string ImageFolder::left_out() const {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "left out: " : "; ") + part; };
  if (in_subfolders > 0)
    add(fmt::format("{} picture{} in subfolders (--recursive takes them)", in_subfolders,
                    in_subfolders == 1 ? "" : "s"));
  if (!cannot_decode.empty()) add(listed(cannot_decode) + " (this program was built without their libraries)");
  if (!not_pictures.empty()) add("no pictures by their names: " + listed(not_pictures));
  if (!linked_folders.empty())
    add(listed("folder that is a link", "folders that are links", linked_folders) + ", which --input can name");
  if (!hidden_folders.empty()) add(listed("hidden folder", "hidden folders", hidden_folders));
  if (!not_files.empty()) add(listed("pipe or device", "pipes or devices", not_files));
  if (!output.empty()) add("the folder of --output (" + output + ")");
  return text;
}

ImageFolder list_images(const fs::path& input, bool recursive, const fs::path& output) {
  ImageFolder result;
  std::error_code error;
  if (!fs::exists(input, error)) throw std::runtime_error(input.string() + ": no such file or folder");
  if (!fs::is_directory(input, error)) {
    result.images.push_back({escaped(input.stem().string()), input});
    return result;
  }
  result = Walk(input, recursive, output).go();
  if (result.images.empty()) {
    std::string what = result.left_out();
    for (const std::string& one : result.broken) what += (what.empty() ? "" : "; ") + one;
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
