// SPDX-License-Identifier: MIT
#include "engine/coco_results.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "runtime/base/files.h"

namespace gradlibra {

namespace {

constexpr int64_t kMaxResultBytes = int64_t{4} << 30;

using Json = nlohmann::json;

// An id as text, whether it was written as a number or as a string.
std::string id_of(const Json& id) { return id.is_string() ? id.get<std::string>() : id.dump(); }

class Reader {
 public:
  explicit Reader(const Dataset& dataset) {
    for (size_t i = 0; i < dataset.images.size(); ++i) images_[dataset.images[i].id] = i;
    for (size_t c = 0; c < dataset.classes.size(); ++c) {
      names_[dataset.classes[c]] = static_cast<int>(c);
      const auto id = dataset.category_ids.find(dataset.classes[c]);
      ids_[id == dataset.category_ids.end() ? static_cast<int64_t>(c) : id->second] = static_cast<int>(c);
    }
  }

  void add(const Json& entry, Detections& detections) const {
    const auto image = images_.find(id_of(entry.at("image_id")));
    if (image == images_.end())
      throw std::runtime_error("image_id " + entry["image_id"].dump() + " is no image of the split");
    Detection found;
    found.label = label_of(entry);
    found.score = entry.at("score").get<double>();
    const auto box = entry.at("bbox").get<std::vector<float>>();
    if (box.size() != 4) throw std::runtime_error("bbox has " + std::to_string(box.size()) + " numbers, not 4");
    found.box = {box[0], box[1], box[0] + box[2], box[1] + box[3]};
    detections[image->second].push_back(found);
  }

 private:
  [[nodiscard]] int label_of(const Json& entry) const {
    if (entry.contains("category")) {
      const auto name = names_.find(entry["category"].get<std::string>());
      if (name == names_.end()) throw std::runtime_error("category " + entry["category"].dump() + " is no class");
      return name->second;
    }
    const auto id = ids_.find(entry.at("category_id").get<int64_t>());
    if (id == ids_.end()) throw std::runtime_error("category_id " + entry["category_id"].dump() + " is no class");
    return id->second;
  }

  std::map<std::string, size_t> images_;
  std::map<std::string, int> names_;
  std::map<int64_t, int> ids_;
};

}  // namespace

Detections read_coco_results(const std::filesystem::path& file, const Dataset& dataset) {
  const Json entries = Json::parse(read_file(file, kMaxResultBytes), nullptr, /*allow_exceptions=*/false);
  if (!entries.is_array()) throw std::runtime_error(file.string() + ": is no JSON list of detections");
  const Reader reader(dataset);
  Detections detections(dataset.images.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    try {
      reader.add(entries[i], detections);
    } catch (const std::exception& error) {
      throw std::runtime_error(fmt::format("{}: entry {}: {}", file.string(), i, error.what()));
    }
  }
  return detections;
}

}  // namespace gradlibra
