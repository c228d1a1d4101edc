// SPDX-License-Identifier: MIT
#include "engine/detection.h"

#include <algorithm>
#include <numeric>

#include "data/images/image.h"
#include "data/loading/pictures.h"

namespace gradlibra {

Dataset as_dataset(const ImageFolder& list, const std::vector<std::string>& classes, bool apply_exif,
                   const std::function<void(const std::string&)>& bad) {
  Dataset dataset;
  dataset.classes = classes;
  for (const auto& [id, path] : list.images) {
    try {
      const ImageInfo info = read_image_info(path);
      const bool turned = apply_exif && info.exif_orientation >= 5;
      ImageRecord record;
      record.id = id;
      record.path = path;
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
bool remove_unreadable(Pictures& pictures, std::vector<size_t>& todo, size_t begin, size_t end,
                       const std::function<void(const std::string&)>& bad) {
  const auto unreadable = [&](size_t image) {
    try {
      (void)pictures.at(static_cast<int64_t>(image));
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

// A loader refuses the whole set for one image that is larger than the network's input.
void remove_too_large(const Dataset& dataset, const Pictures& pictures, std::vector<size_t>& todo,
                      const std::function<void(const std::string&)>& bad) {
  std::erase_if(todo, [&](size_t image) {
    const ImageRecord& record = dataset.images[image];
    try {
      pictures.check_fits(record, record.width, record.height);
      return false;
    } catch (const std::exception& e) {
      bad(e.what());
      return true;
    }
  });
}

}  // namespace

bool detect_readable(Detector& detector, const Dataset& dataset, const ExperimentConfig& config,
                     const std::atomic<int>& signal, const DetectionSink& sink,
                     const std::function<void(const std::string&)>& bad) {
  std::vector<size_t> todo(dataset.images.size());
  std::iota(todo.begin(), todo.end(), size_t{0});
  LoaderConfig loader = config.loader;
  loader.cache_mb = 0;
  Pictures pictures(dataset, loader, config.data.exif == "apply");
  remove_too_large(dataset, pictures, todo, bad);
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
      if (!remove_unreadable(pictures, todo, done, end, bad)) throw;
    }
  }
  return true;
}

}  // namespace gradlibra
