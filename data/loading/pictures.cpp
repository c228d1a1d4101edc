// SPDX-License-Identifier: MIT
#include "data/loading/pictures.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "runtime/base/files.h"

namespace gradlibra {

SharedPicture PictureCache::find(int64_t index) const {
  const std::lock_guard lock(mutex_);
  const auto found = pictures_.find(index);
  return found == pictures_.end() ? nullptr : found->second;
}

void PictureCache::offer(int64_t index, const SharedPicture& picture) {
  const auto bytes = static_cast<int64_t>(picture->image.pixels.size());
  const std::lock_guard lock(mutex_);
  if (bytes > bytes_left_) return;
  if (pictures_.emplace(index, picture).second) bytes_left_ -= bytes;
}

Picture as_input(const LoaderConfig& config, Image image) {
  const auto [width, height] = input_size(config, image.width, image.height);
  Picture picture;
  picture.scale_x = static_cast<float>(static_cast<double>(width) / image.width);
  picture.scale_y = static_cast<float>(static_cast<double>(height) / image.height);
  picture.image = width == image.width && height == image.height ? std::move(image) : resize(image, width, height);
  return picture;
}

void Pictures::check_fits(const ImageRecord& record, int width, int height) const {
  if (config_.resize != "none" || (width <= config_.width && height <= config_.height)) return;
  throw std::runtime_error(fmt::format(
      "{}: is {} x {} pixels (width x height), larger than the network input {} x {}: enlarge loader.width and "
      "loader.height or set loader.resize to fit or stretch",
      record.path.string(), width, height, config_.width, config_.height));
}

SharedPicture Pictures::at(int64_t index) {
  if (SharedPicture found = cache_.find(index)) return found;
  const ImageRecord& record = dataset_.images[static_cast<size_t>(index)];
  Image image = read_image(record.path, apply_exif_);
  if (image.width != record.width || image.height != record.height) {
    throw std::runtime_error(fmt::format("{}: is {} x {} pixels, was {} x {} when the data set was read",
                                         record.path.string(), image.width, image.height, record.width, record.height));
  }
  check_fits(record, image.width, image.height);
  const auto result = std::make_shared<const Picture>(as_input(config_, std::move(image)));
  cache_.offer(index, result);
  return result;
}

SharedPicture Pictures::readable(const std::vector<int64_t>& order, int64_t position, int64_t& index,
                                 std::vector<std::string>& skipped) {
  const auto length = static_cast<int64_t>(order.size());
  std::string first;
  for (int64_t k = 0; k < length; ++k) {
    index = order[static_cast<size_t>((position + k) % length)];
    if (known_bad(index)) continue;
    try {
      return at(index);
    } catch (const std::exception& error) {
      std::error_code unknown;
      const std::filesystem::path& file = dataset_.images[static_cast<size_t>(index)].path;
      if (dynamic_cast<const ReadError*>(&error) != nullptr && !std::filesystem::exists(file.parent_path(), unknown))
        throw;
      if (first.empty()) first = error.what();
      if (note_bad(index, error.what())) skipped.emplace_back(error.what());
    }
  }
  throw std::runtime_error("loader: not one image of the training split can be read; the last: " + first);
}

bool Pictures::known_bad(int64_t index) {
  const std::lock_guard lock(bad_mutex_);
  return bad_.contains(index);
}

bool Pictures::note_bad(int64_t index, const char* why) {
  const std::lock_guard lock(bad_mutex_);
  if (!bad_.insert(index).second) return false;
  const auto all = static_cast<int64_t>(dataset_.images.size());
  const auto count = static_cast<int64_t>(bad_.size()), most = std::max<int64_t>(5, all / 100);
  if (count > most)
    throw std::runtime_error(fmt::format(
        "{} of {} training images cannot be read any more, which is too many to go on without them; the last: {}",
        count, all, why));
  return true;
}

}  // namespace gradlibra
