// SPDX-License-Identifier: MIT
#include "engine/detection.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "data/images/image.h"

namespace gradlibra {

namespace fs = std::filesystem;

namespace {

std::string lower_extension(const fs::path& file) {
  std::string extension = file.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return extension.empty() ? "no extension" : extension;
}

std::string first_names(const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) text += (i > 0 ? ", " : "") + names[i];
  return text + (names.size() > kShown ? ", .." : "");
}

// What lies in the folder, taken or passed over.
template <class Iterator>
void scan(const fs::path& folder, ImageList& list, std::vector<std::string>& folders,
          std::map<std::string, std::vector<std::string>>& others) {
  for (const auto& entry : Iterator(folder, fs::directory_options::skip_permission_denied)) {
    const std::string name = entry.path().lexically_relative(folder).string();
    if (entry.is_directory())
      folders.push_back(name);
    else if (format_by_name(entry.path()))
      list.files.push_back(entry.path());
    else
      others[lower_extension(entry.path())].push_back(name);
  }
}

// ".jpg, .jpeg, .png, .."
std::string readable_extensions() {
  std::string text;
  for (const ImageExtension& extension : kImageExtensions)
    text += (text.empty() ? "" : ", ") + std::string(extension.text);
  return text;
}

}  // namespace

ImageList list_images(const fs::path& input, bool recursive) {
  if (!fs::exists(input)) throw std::runtime_error(input.string() + ": no such file or folder");
  if (!fs::is_directory(input)) return {.root = input.parent_path(), .files = {input}, .left_out = {}};
  ImageList list{.root = input, .files = {}, .left_out = {}};
  std::vector<std::string> folders;
  std::map<std::string, std::vector<std::string>> others;
  if (recursive)
    scan<fs::recursive_directory_iterator>(input, list, folders, others);
  else
    scan<fs::directory_iterator>(input, list, folders, others);
  std::sort(list.files.begin(), list.files.end());
  std::sort(folders.begin(), folders.end());
  if (!recursive && !folders.empty())
    list.left_out.push_back(fmt::format("{} folder{} ({}): --recursive takes the images in them", folders.size(),
                                        folders.size() == 1 ? "" : "s", first_names(folders)));
  for (auto& [extension, names] : others) {
    std::sort(names.begin(), names.end());
    list.left_out.push_back(fmt::format("{} file{} with {} ({}): not a format that is read ({})", names.size(),
                                        names.size() == 1 ? "" : "s", extension, first_names(names),
                                        readable_extensions()));
  }
  if (list.files.empty()) {
    std::string message = input.string() + ": holds no image (" + readable_extensions() + ")";
    for (const std::string& what : list.left_out) message += "; left out: " + what;
    throw std::runtime_error(message);
  }
  return list;
}

std::vector<std::string> image_ids(const ImageList& list) {
  std::vector<std::string> stems, names;
  for (const fs::path& file : list.files) {
    const fs::path relative = list.root.empty() ? file.filename() : file.lexically_relative(list.root);
    names.push_back(relative.generic_string());
    stems.push_back((relative.parent_path() / relative.stem()).generic_string());
  }
  const bool unique = std::set<std::string>(stems.begin(), stems.end()).size() == stems.size();
  return unique ? stems : names;
}

Dataset as_dataset(const ImageList& list, const std::vector<std::string>& classes, bool apply_exif,
                   const std::function<void(const std::string&)>& bad) {
  Dataset dataset;
  dataset.classes = classes;
  const std::vector<std::string> ids = image_ids(list);
  for (size_t i = 0; i < list.files.size(); ++i) {
    try {
      const ImageInfo info = read_image_info(list.files[i]);
      const bool turned = apply_exif && info.exif_orientation >= 5;
      ImageRecord record;
      record.id = ids[i];
      record.path = list.files[i];
      record.width = turned ? info.height : info.width;
      record.height = turned ? info.width : info.height;
      dataset.images.push_back(std::move(record));
    } catch (const std::exception& e) {
      bad(e.what());
    }
  }
  return dataset;
}

namespace {

// Thrown through the loader's loop.
struct Signalled {};
struct SinkFailed {
  std::exception_ptr error;
};

// Takes the images that cannot be decoded out of todo[begin, end) and names them; false if all can.
bool remove_unreadable(const Dataset& dataset, bool apply_exif, std::vector<size_t>& todo, size_t begin, size_t end,
                       const std::function<void(const std::string&)>& bad) {
  const auto unreadable = [&](size_t image) {
    try {
      (void)read_image(dataset.images[image].path, apply_exif);
      return false;
    } catch (const std::exception& e) {
      bad(e.what());
      return true;
    }
  };
  const auto first = todo.begin() + static_cast<int64_t>(begin), last = todo.begin() + static_cast<int64_t>(end);
  const auto kept = std::remove_if(first, last, unreadable);
  const bool any = kept != last;
  todo.erase(kept, last);
  return any;
}

}  // namespace

bool detect_readable(Detector& detector, const Dataset& dataset, const ExperimentConfig& config,
                     const std::atomic<int>& signal, const DetectionSink& sink,
                     const std::function<void(const std::string&)>& bad) {
  std::vector<size_t> todo(dataset.images.size());
  std::iota(todo.begin(), todo.end(), size_t{0});
  size_t done = 0;
  while (done < todo.size()) {
    Dataset rest;
    rest.classes = dataset.classes;
    const size_t start = done;
    for (size_t i = start; i < todo.size(); ++i) rest.images.push_back(dataset.images[todo[i]]);
    try {
      detect_each(detector, rest, config, [&](size_t image, std::vector<Detection> found) {
        if (signal.load() != 0) throw Signalled{};
        try {
          sink(todo[start + image], std::move(found));
        } catch (...) {
          throw SinkFailed{std::current_exception()};
        }
        done = start + image + 1;
      });
    } catch (const Signalled&) {
      return false;
    } catch (const SinkFailed& failed) {
      std::rethrow_exception(failed.error);
    } catch (const std::exception&) {
      // A batch could not be made. It is the one behind what is done, of which some images cannot be read; if all can,
      // the fault is another's.
      const size_t end = std::min(todo.size(), done + static_cast<size_t>(config.loader.batch_size));
      if (!remove_unreadable(dataset, config.data.exif == "apply", todo, done, end, bad)) throw;
    }
  }
  return true;
}

}  // namespace gradlibra
