// SPDX-License-Identifier: MIT
#include "engine/batches.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/json_file.h"
#include "kernels/image_normalize.h"
#include "runtime/base/json_text.h"

namespace gradlibra {

namespace {

template <class T>
Prefetch::Item copy_of(Context& context, const std::vector<T>& values, Shape shape, Tensor& to) {
  require(static_cast<int64_t>(values.size()) == shape.size(), "batch", "an array is not of the batch's shape");
  if (to.empty() || to.shape() != shape) to = context.empty(shape, dtype_of<T>());
  return {values.data(), &to};
}

// A label is a place in tables of the loss, and what lives on the device cannot be checked there.
void check_values(const Batch& batch, std::optional<int64_t> classes, const std::string& file) {
  constexpr int32_t kMostOrientation = kernels::kFlipHorizontal | kernels::kFlipVertical | kernels::kTranspose;
  for (int64_t n = 0; n < batch.N; ++n) {
    const auto refuse = [&](const char* tensor, const std::string& place, const std::string& what) {
      throw std::runtime_error(fmt::format("{}: {} of image {}{}: is {}", file, tensor, n, place, what));
    };
    const auto within = [&](const char* tensor, const std::string& place, int32_t value, int64_t least, int64_t most) {
      if (value < least || value > most)
        refuse(tensor, place, fmt::format("{}, and {} to {} are allowed", value, least, most));
    };
    const int32_t count = batch.gt_counts[n];
    within("gt_counts", "", count, 0, batch.max_boxes);
    within("orientations", "", batch.orientations[n], 0, kMostOrientation);
    within("sizes", ", height", batch.sizes[2 * n], 1, batch.H);
    within("sizes", ", width", batch.sizes[2 * n + 1], 1, batch.W);
    for (int64_t m = 0; m < batch.max_boxes; ++m) {
      const int64_t at = n * batch.max_boxes + m;
      const std::string place = fmt::format(", box {}", m);
      const float* box = batch.gt_boxes.data() + 4 * at;
      for (int side = 0; side < 4; ++side)
        if (!std::isfinite(box[side]))
          refuse("gt_boxes", place, fmt::format("{}, and finite numbers are allowed", box[side]));
      if (m >= count) continue;
      if (box[0] > box[2] || box[1] > box[3])
        refuse("gt_boxes", place,
               fmt::format("{} {} {} {}, and x1 <= x2 and y1 <= y2 are allowed", box[0], box[1], box[2], box[3]));
      within("gt_labels", place, batch.gt_labels[at], 0, classes.value_or(std::numeric_limits<int32_t>::max()) - 1);
    }
  }
}

std::vector<std::string> ids_of(const SafetensorsFile& file, const std::string& name, int64_t N) {
  const auto found = file.metadata.find("ids");
  if (found == file.metadata.end()) throw std::runtime_error(name + ": no 'ids' in its metadata: not a batch");
  const auto json = parse_json_or_discard<JsonValue::Json>(found->second);
  if (json.is_discarded()) throw std::runtime_error(name + ": 'ids' in its metadata is no JSON");
  std::vector<std::string> ids;
  const JsonValue list(json, name, "ids");
  for (const JsonValue& id : list.list()) ids.push_back(id.text());
  if (static_cast<int64_t>(ids.size()) != N) list.fail(fmt::format("has {} ids for {} images", ids.size(), N));
  return ids;
}

}  // namespace

std::vector<Prefetch::Item> prepare(Context& context, const Batch& batch, DeviceBatch& to) {
  const int64_t N = batch.N, M = batch.max_boxes;
  std::vector<Prefetch::Item> items = {copy_of(context, batch.images, {N, batch.H, batch.W, 3}, to.images.pixels),
                                       copy_of(context, batch.orientations, {N}, to.images.orientations),
                                       copy_of(context, batch.sizes, {N, 2}, to.images.sizes),
                                       copy_of(context, batch.gt_boxes, {N, M, 4}, to.truth.boxes),
                                       copy_of(context, batch.gt_labels, {N, M}, to.truth.labels),
                                       copy_of(context, batch.gt_counts, {N}, to.truth.counts)};
  to.truth.sizes = Tensor::borrow(to.images.sizes.view<int32_t>().data(), {N, 2});
  to.truth.orientations = Tensor::borrow(to.images.orientations.view<int32_t>().data(), {N});
  return items;
}

void upload(Context& context, const Batch& batch, DeviceBatch& to) {
  for (const Prefetch::Item& item : prepare(context, batch, to)) context.upload_bytes(item.host, *item.to);
}

ClassInfo class_info(const Dataset& training) {
  ClassInfo classes{training.classes, std::vector<int64_t>(training.classes.size(), 0)};
  for (const ImageRecord& image : training.images)
    for (const Object& object : image.objects)
      if (is_target(object)) ++classes.instances.at(static_cast<size_t>(object.label));
  return classes;
}

SafetensorsFile batch_file(const Batch& batch) {
  SafetensorsFile file;
  const int64_t N = batch.N, M = batch.max_boxes;
  file.tensors["images"] = make_file_tensor(batch.images, {N, batch.H, batch.W, 3});
  file.tensors["orientations"] = make_file_tensor(batch.orientations, {N});
  file.tensors["sizes"] = make_file_tensor(batch.sizes, {N, 2});
  file.tensors["gt_boxes"] = make_file_tensor(batch.gt_boxes, {N, M, 4});
  file.tensors["gt_labels"] = make_file_tensor(batch.gt_labels, {N, M});
  file.tensors["gt_counts"] = make_file_tensor(batch.gt_counts, {N});
  file.metadata = {{"format", "gradlibra batch 1"},
                   {"ids", nlohmann::json(batch.ids).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)}};
  return file;
}

Batch read_batch(const std::filesystem::path& path, std::optional<int64_t> classes) {
  const SafetensorsFile file = read_safetensors(path);
  // The tensor `name`; -1 stands for any extent.
  const auto tensor = [&](const char* name, FileDType dtype, const std::vector<int64_t>& shape) -> const FileTensor& {
    const auto found = file.tensors.find(name);
    if (found == file.tensors.end())
      throw std::runtime_error(fmt::format("{}: no tensor '{}': not a batch", path.string(), name));
    const auto& got = found->second.shape;
    bool fits = found->second.dtype == dtype && got.size() == shape.size();
    for (size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] < 0 || shape[i] == got[i];
    if (!fits)
      throw std::runtime_error(
          fmt::format("{}: tensor '{}' has another type or shape than a batch's", path.string(), name));
    return found->second;
  };
  Batch batch;
  const FileTensor& images = tensor("images", FileDType::u8, {-1, -1, -1, 3});
  batch.N = images.shape[0], batch.H = images.shape[1], batch.W = images.shape[2];
  if (batch.N == 0) throw std::runtime_error(path.string() + ": images has no image");
  const FileTensor& boxes = tensor("gt_boxes", FileDType::f32, {batch.N, -1, 4});
  batch.max_boxes = boxes.shape[1];
  batch.images = images.values<uint8_t>();
  batch.orientations = tensor("orientations", FileDType::i32, {batch.N}).values<int32_t>();
  batch.sizes = tensor("sizes", FileDType::i32, {batch.N, 2}).values<int32_t>();
  batch.gt_boxes = boxes.values<float>();
  batch.gt_labels = tensor("gt_labels", FileDType::i32, {batch.N, batch.max_boxes}).values<int32_t>();
  batch.gt_counts = tensor("gt_counts", FileDType::i32, {batch.N}).values<int32_t>();
  check_values(batch, classes, path.string());
  batch.ids = ids_of(file, path.string(), batch.N);
  return batch;
}

}  // namespace gradlibra
