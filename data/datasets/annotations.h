// SPDX-License-Identifier: MIT
// The seam inside the dataset reader: what an annotation file says, before it is held against the image, the class
// list and the policies.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "data/datasets/dataset.h"

namespace gradlibra {

inline constexpr int64_t kMaxXmlBytes = 64LL << 20;        // the annotation of one image
inline constexpr int64_t kMaxAnnotationBytes = 2LL << 30;  // a COCO file
inline constexpr int64_t kMaxListBytes = 256LL << 20;      // a list of image names

// A policy that no configuration can relax.
inline constexpr const char* kAlwaysError = "always error";

// Where findings go. A finding under a policy of "error" is thrown, unless the log was made to collect everything
// (inspection): then policies count as "drop", and what no policy could drop is noted as fatal.
class FindingLog {
 public:
  enum class OnError { raise, collect };
  FindingLog(std::vector<Finding>& findings, OnError on_error) : findings_(findings), on_error_(on_error) {}

  // Appends.
  void note(Finding finding) { findings_.push_back(std::move(finding)); }
  // Under "error" throws std::runtime_error "file: where: message" with the key and value that would let the reader
  // go on; else appends. `key` is a field of DatasetConfig, `policy` its value.
  void judge(Finding finding, const char* key, const std::string& policy);

  [[nodiscard]] bool collecting() const { return on_error_ == OnError::collect; }

 private:
  std::vector<Finding>& findings_;
  OnError on_error_;
};

[[nodiscard]] std::string describe(const Finding& finding);  // "file: where: message"

struct RawObject {
  std::string class_name;
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;  // continuous pixel coordinates, not checked
  std::string spelled;                    // the box as the file has it, for messages
  bool difficult = false, crowd = false;
  std::optional<double> area;
  std::string where;  // the object, for findings
};

struct RawImage {
  std::string id;
  std::filesystem::path path;     // empty: not found
  std::string annotation_file;    // for findings
  std::string where;              // the image's entry in it
  std::string size_where;         // where it states the size; empty: in that entry
  int64_t width = 0, height = 0;  // as annotated; 0: not stated
  int inset = 0;  // boxes lie in [0, width - inset] x [0, height - inset]: 1 where pixel indices were given
  std::vector<RawObject> objects;
  bool usable = true;  // false: it has been reported, and is dropped
};

struct RawSplit {
  std::vector<RawImage> images;
  std::vector<std::string> classes;  // COCO: names of the categories in id order. VOC: names that objects have, sorted
  std::map<std::string, int64_t> category_ids;  // COCO: the file's id of each class
};

[[nodiscard]] std::filesystem::path image_folder(const DatasetConfig& config);
[[nodiscard]] std::filesystem::path annotation_folder(const DatasetConfig& config);
[[nodiscard]] const std::string& split_name(const DatasetConfig& config, Split split);
[[nodiscard]] const char* to_string(Split split);
// The file that lists a split: ImageSets/Main/<name>.txt, or for COCO <name>, <name>.json, annotations/<name>.json or
// annotations/instances_<name>.json, whichever exists first. std::runtime_error names what was tried and what is there.
[[nodiscard]] std::filesystem::path split_file(const DatasetConfig& config, Split split);

// `folder`/`name`, or that with one of the usual extensions; empty if there is no such file. `guessed` tells the second
// case.
[[nodiscard]] std::filesystem::path find_image(const std::filesystem::path& folder, const std::string& name,
                                               bool& guessed);

// Both report what is wrong inside the annotation files; images and boxes are not looked at.
[[nodiscard]] RawSplit read_voc(const DatasetConfig& config, Split split, FindingLog& log);
[[nodiscard]] RawSplit read_coco(const DatasetConfig& config, Split split, FindingLog& log);
// Names of the categories of a COCO file in id order.
[[nodiscard]] std::vector<std::string> read_coco_classes(const std::filesystem::path& file);

// Bad images of a training split are a matter of policy; an evaluation never goes on without an image, or its result
// would be of another data set.
[[nodiscard]] std::string bad_image_policy(const DatasetConfig& config, Split split);

// read_dataset() with the log's way of taking errors.
[[nodiscard]] Dataset read_dataset(const DatasetConfig& config, Split split, FindingLog& log, bool decode);

}  // namespace gradlibra
