// SPDX-License-Identifier: MIT
// The seam inside the dataset reader: what an annotation file says, before it is held against the image, the class
// list and the policies.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/datasets/dataset.h"
#include "data/datasets/find_image.h"
#include "data/datasets/walk_folder.h"
#include "data/images/image.h"

namespace gradlibra {

inline constexpr int64_t kMaxXmlBytes = 64LL << 20;        // the annotation of one image
inline constexpr int64_t kMaxAnnotationBytes = 2LL << 30;  // a COCO file
inline constexpr int64_t kMaxListBytes = 256LL << 20;      // a list of image names

// A policy that no configuration can relax.
inline constexpr const char* kAlwaysError = "always error";

// Where findings go, and which of them stop the program: those under a policy of "error" are noted with the action
// `fatal`, and the reading goes on, so that the message can say how many there are and what they have in common.
class FindingLog {
 public:
  enum class OnError { raise, collect };  // collect: inspection, which never stops
  FindingLog(std::vector<Finding>& findings, OnError on_error)
      : findings_(findings), on_error_(on_error), first_(findings.size()) {}

  // Appends.
  void note(Finding finding) { findings_.push_back(std::move(finding)); }
  // The same, as `fatal` unless the policy is "drop" (the action stands) or "miss" (it becomes `counted`). `key` is the
  // field of DatasetConfig that holds the policy.
  void judge(Finding finding, const char* key, const std::string& policy);

  // Throws std::runtime_error if something fatal was judged and the log raises: the first finding of each kind, how
  // many like it of how many, and the remedy. `images` and `boxes` are what the split lists.
  void stop_if_fatal(int64_t images, int64_t boxes) const;

  // Those of this log.
  [[nodiscard]] std::span<const Finding> findings() const { return std::span(findings_).subspan(first_); }

 private:
  struct Fatal {
    size_t finding;  // its place in findings_
    std::string key, policy;
  };
  std::vector<Finding>& findings_;
  OnError on_error_;
  size_t first_;
  std::vector<Fatal> fatal_;
};

[[nodiscard]] std::string describe(const Finding& finding);  // "file: where: message"

struct RawObject {
  std::string class_name;
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;  // continuous pixel coordinates, not checked
  std::string spelled;                    // the box as the file has it, for messages
  std::string hint;                       // why a coordinate may not be a number
  bool unit = false;                      // all four numbers of the file lie in 0..1 (YOLO: any does)
  bool unreadable = false;                // there is no box at all, which has been reported: a truth that is missed
  bool difficult = false, crowd = false;
  std::optional<double> area;
  std::string where;  // the object, for findings
};

struct RawImage {
  std::string id;
  std::string image_name;         // as the annotation has it; empty: the id is the name
  std::filesystem::path path;     // empty: not found
  std::string annotation_file;    // for findings
  std::string where;              // the image's entry in it
  std::string size_where;         // where it states the size; empty: in that entry
  int64_t width = 0, height = 0;  // as annotated; 0: not stated
  int inset = 0;           // boxes lie in [0, width - inset] x [0, height - inset]: 1 where pixel indices were given
  bool fractions = false;  // boxes are fractions of the picture
  std::vector<RawObject> objects;
  bool usable = true;  // false: it has been reported, and is dropped
};

struct RawSplit {
  std::vector<RawImage> images;
  int64_t images_listed = 0;         // with those that did not become one of `images`
  std::vector<std::string> classes;  // COCO: names of the categories in id order. VOC: names that objects have, sorted
  std::map<std::string, int64_t> category_ids;    // COCO: the file's id of each class
  std::map<int64_t, std::string> category_names;  // COCO: the name of each of its ids
  bool text_ids = false;                          // COCO: some image id is text and no number
  int64_t refused_boxes = 0;                      // entries that could not become an object
};

// A split that is being read: with whose policies, and where its pictures are.
struct Reading {
  const DatasetConfig& config;
  Split split;
  bool evaluation;
  FindingLog& log;
  ImageFinder finder = {};
};

[[nodiscard]] std::filesystem::path image_folder(const DatasetConfig& config, Split split);
[[nodiscard]] std::filesystem::path annotation_folder(const DatasetConfig& config);
[[nodiscard]] const std::string& split_name(const DatasetConfig& config, Split split);
// The file or folder that lists a split, whichever exists first:
//   voc   ImageSets/Main/<name>.txt, <name>.txt, or a folder <name> of XML files (all folders in it, too); the name "*"
//         stands for all XML files of annotation_dir
//   coco  <name>, <name>.json, annotations/<name>, annotations/<name>.json, annotations/instances_<name>.json, or
//         <name>/_annotations.coco.json
//   yolo  <name>.txt (a list of pictures), or a folder images/<name>, <name>/images or <name> of pictures
// std::runtime_error names what was tried and what is there.
[[nodiscard]] std::filesystem::path split_file(const DatasetConfig& config, Split split);

// Of what a walk met, that for which `wanted` holds, sorted: files, and links that lead to nothing, which then are
// entries like others that are missing.
[[nodiscard]] std::vector<std::string> files_of(const FolderWalk& walk,
                                                const std::function<bool(const std::filesystem::path&)>& wanted);
// Names what the walk of `folder` passed over: hidden folders by how many wanted files they hold, links to nothing.
void note_passed_over(FindingLog& log, const std::filesystem::path& folder, const FolderWalk& walk,
                      const std::function<bool(const std::filesystem::path&)>& wanted);

// The content of a text file of at most `max_bytes`; std::runtime_error names it and why: not UTF-8, UTF-16. A byte
// order mark is left out.
[[nodiscard]] std::string read_text(const std::filesystem::path& file, int64_t max_bytes);

// For an entry of a list that is there already, maybe in another spelling.
[[nodiscard]] std::string listed_twice(const std::string& first, const std::string& again);

// "1", "true", "yes" and "0", "false", "no", "" in any capitals; empty: something else.
[[nodiscard]] std::optional<bool> flag_of(std::string_view text);

// All report what is wrong inside the annotation files; images and boxes are not looked at.
[[nodiscard]] RawSplit read_voc(Reading& reading);
[[nodiscard]] RawSplit read_coco(Reading& reading);
[[nodiscard]] RawSplit read_yolo(Reading& reading);
// Names of the categories of a COCO file in id order.
[[nodiscard]] std::vector<std::string> read_coco_classes(const std::filesystem::path& file);

// Bad images of a training split are a matter of policy; an evaluation never goes on without an image, or its result
// would be of another data set.
[[nodiscard]] std::string bad_image_policy(const DatasetConfig& config, bool evaluation);

// Which key rules over a box without usable coordinates. In an evaluation it is a truth, which is never dropped unless
// the configuration says so.
struct BoxPolicy {
  const char* key;
  std::string policy;  // error | drop | miss
};
[[nodiscard]] BoxPolicy box_policy(const DatasetConfig& config, bool evaluation);
// Notes that a box cannot be read at all; true: it stays, as a truth that is missed.
[[nodiscard]] bool judge_unreadable(Reading& reading, Finding finding);

// Images held against the files, and objects against image, class list and policies.
class Checker {
 public:
  Checker(Reading& reading, const InputLimits& limits, const std::vector<std::string>& classes);
  // False: the image is dropped. `info` is empty where reading the file failed, for the reason `error`.
  [[nodiscard]] bool check_image(const RawImage& raw, const ImageInfo& info, const std::string& error,
                                 ImageRecord& record);
  void check_objects(const RawImage& raw, ImageRecord& record);

 private:
  [[nodiscard]] bool check_box(const RawImage& raw, const RawObject& object, const ImageRecord& record, Object& out);
  void note_pixels(const std::string& file, const std::filesystem::path& path, const ImageInfo& info);

  Reading& reading_;
  const DatasetConfig& config_;
  const std::string image_policy_;
  const InputLimits limits_;
  const std::vector<std::string>& classes_;
  std::map<std::string, int> labels_;
};

// Judges, as an error always, that no box at all can be in the units of its format: fractions of the picture where it
// has pixels, or the other way round.
void check_units(const Reading& reading, const RawSplit& raw, const std::filesystem::path& file);

// Counts of what a reading kept and left out.
[[nodiscard]] DatasetSummary summarize(const Dataset& dataset, int64_t in_dropped_images,
                                       std::span<const Finding> findings, bool evaluation);

// read_dataset() with the log's way of taking errors.
[[nodiscard]] Dataset read_dataset(const DatasetConfig& config, Split split, FindingLog& log,
                                   const ReadOptions& options);

}  // namespace gradlibra
