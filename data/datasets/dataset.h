// SPDX-License-Identifier: MIT
// Annotated images as the rest of the program sees them: class list, groups, splits, boxes; and what was wrong in the
// files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "runtime/base/config.h"

namespace gradlibra {

// Image pixels, continuous coordinates, x1 < x2 and y1 < y2; width is x2 - x1 (no "+1"). A pixel column i covers
// [i, i+1).
struct Box {
  float x1 = 0, y1 = 0, x2 = 0, y2 = 0;
  friend bool operator==(const Box&, const Box&) = default;
};

struct Object {
  Box box;
  int label = 0;           // index into Dataset::classes
  bool difficult = false;  // VOC: neither hit nor miss in evaluation, not a training target
  bool crowd = false;      // COCO iscrowd
  double area = 0;         // COCO area field; width * height where absent
};
// Whether it is one to learn, and to be found.
[[nodiscard]] inline bool is_target(const Object& object) { return !object.difficult && !object.crowd; }

// The box of a truth that no detection can overlap, whatever the convention: its file gives none that can be used, and
// it counts as missed all the same.
inline constexpr Box kUnmatchable{0, 0, -1, -1};

struct ImageRecord {
  std::string id;              // VOC, YOLO: name in the split; COCO: the image id as text. UTF-8 and unique
  std::filesystem::path path;  // the image file
  int width = 0, height = 0;   // of the decoded image
  std::vector<Object> objects;
};

// What reading a split kept, and what it left out, mended or counted as missed, by the kind of finding.
struct DatasetSummary {
  using Counts = std::map<std::string, int64_t>;
  bool evaluation = false;
  int64_t images = 0;                           // kept
  int64_t boxes = 0, difficult = 0, crowd = 0;  // kept; difficult and crowd ones are among `boxes`
  Counts images_dropped, boxes_dropped;         // boxes of dropped images are counted as "in_dropped_images"
  Counts boxes_mended;                          // swapped, clipped
  Counts boxes_missed;                          // evaluation: kept as truths that no detection can match
  std::vector<int64_t> class_boxes;             // per class, neither difficult nor crowd

  // Neither difficult nor crowd: what training learns from and an evaluation counts.
  [[nodiscard]] int64_t targets() const;
  // One line: "7 of 8 images (dropped: 1 unreadable_image), 12 of 15 boxes (dropped: 2 not_finite, 1 empty_box; ..".
  [[nodiscard]] std::string text() const;
  // The same as a JSON object.
  [[nodiscard]] std::string json() const;
};

struct Dataset {
  std::vector<std::string> classes;
  std::map<std::string, std::vector<std::string>> groups;  // "frequent" / "common" / "rare" -> class names
  std::vector<ImageRecord> images;                         // in split order (VOC) or ascending id (COCO)
  std::map<std::string, int64_t> category_ids;             // COCO: the file's id of each class; empty for VOC
  std::map<int64_t, std::string> category_names;  // COCO: the name of each of its ids, of which some may be one
  bool text_ids = false;                          // COCO: the file's image ids are text, not numbers
  DatasetSummary summary;
};

// One defect of the data, named so that a person can find and mend it.
struct Finding {
  enum class Kind {
    swapped_box,  // x1 > x2 or y1 > y2
    empty_box,    // zero width or height
    outside_box,  // leaves the image (partly or wholly)
    not_finite,   // NaN, infinity or not a number
    unknown_class,
    missing_image,
    unreadable_image,  // truncated, corrupt, not an image, over the limits
    missing_annotation,
    bad_annotation,            // not XML/JSON, a key missing or of the wrong type
    size_mismatch,             // the annotation's width and height are not the image's
    exif_rotation,             // orientation tag other than 1
    duplicate_id,              // two images of one id, an image listed twice, one in two splits
    duplicate_box,             // same class, same coordinates
    unused_image,              // an image without annotation, or in no split
    zero_based,                // xmin or ymin 0 in a file declared one-based
    no_objects,                // an image without boxes to train on (see data.filter_empty)
    small_image,               // less wide or high than data.min_size
    guessed_file_name,         // file_name without extension, resolved to an existing file
    wrong_extension,           // a PNG called .jpg or the like (read by its content)
    class_missing_from_image,  // lacks the class that nearly all others hold: perhaps not fully labelled (information)
    tiny_box,                  // under a pixel wide or high: normalised?
    normalised_boxes,          // all boxes of a split lie in 0..1
    ambiguous_image,           // two files answer to one name
    file_name_mismatch,        // VOC: <filename> names another picture than the split does
    pixel_format,              // not 8 bits of grey or RGB: 16 bits, CMYK (information)
    several_frames,            // an animation or a TIFF of several pages: the first is used (information)
    ignore_flag,               // COCO: "ignore": 1, no target of training, a truth of an evaluation (information)
    id_type,                   // COCO: ids of two types, "1" and 1 (information)
    tag_case,                  // VOC: <Object> for <object>
    not_utf8,                  // a name whose bytes are not UTF-8
    passed_over,               // hidden folders, links to nothing, pictures of formats that are not read (information)
    missing_class,             // no usable box of a class that the configuration names
    too_large_image,           // larger than the network's input, with loader.resize none
    too_many_boxes,            // more than loader.max_boxes
  };
  // counted: a truth of an evaluation that no detection can match; fatal: the program stops here.
  enum class Action { none, fixed, clipped, counted, object_dropped, image_dropped, fatal };
  Kind kind;
  Action action;
  std::string file;     // the annotation or image file
  std::string where;    // "line 12", "object 3", "annotations[17].bbox": empty if the file is the place
  std::string message;  // what was found, with the values
};

[[nodiscard]] const char* to_string(Finding::Kind kind);
[[nodiscard]] const char* to_string(Finding::Action action);

struct DatasetConfig {
  std::string format = "voc";  // voc | coco | yolo
  std::string root = "";
  std::vector<std::string> classes;
  std::map<std::string, std::vector<std::string>> groups;
  // Where a split is looked for: split_file() in annotations.h. Empty: there is no such split.
  std::string train = "train", val = "val", test = "test";
  std::string image_dir = "";  // under root; empty: JPEGImages (VOC), images (COCO)
  std::string train_image_dir = "", val_image_dir = "", test_image_dir = "";  // instead of image_dir, where not empty
  std::string annotation_dir = "";  // under root; VOC only, empty: Annotations
  // VOC files count pixels from 1: (xmin, ymin, xmax, ymax) becomes (xmin - 1, ymin - 1, xmax - 1, ymax - 1), as
  // MMDetection reads them, so that a box over all of a W x H image is (0, 0, W - 1, H - 1). Fractions are kept. false:
  // as written.
  bool voc_one_based = true;
  std::string unknown_class = "error";  // error | drop
  // error | drop: empty, not finite, wholly outside (partly outside is clipped, swapped is put right)
  std::string bad_box = "drop";
  // error | miss | drop: truth of an evaluation whose coordinates cannot be read. Where they can, a truth stays as it
  // is written, as the published evaluators have it: empty or outside the picture it is missed by every detector, and
  // it is not clipped; `drop` leaves out the former. A bad_box of "error" comes first.
  std::string bad_truth = "error";
  // error | drop: missing, unreadable or mis-sized images, images without annotation; of a training split only: in an
  // evaluation they are always errors, or the result would be that of another data set.
  std::string bad_image = "error";
  std::string missing_class = "allow";  // allow | error: training without a usable box of a class that `classes` names
  std::string check_images = "full";    // full | header: what is read of every image before training starts
  std::string exif = "ignore";          // ignore | apply: pixels as stored, or turned upright by the EXIF orientation
  bool filter_empty = true;             // leave images without boxes out of training
  int min_size = 32;                    // leave images less wide or high than this out of training; 0: none
  void describe(ConfigVisitor& v);
};

enum class Split { train, val, test };
[[nodiscard]] const char* to_string(Split split);

// What a loader could not take: 0 stands for no limit.
struct InputLimits {
  int width = 0, height = 0, boxes = 0;
};

struct ReadOptions {
  bool decode = false;      // decode every image to its end, which finds truncated and corrupt files; else headers
  bool evaluation = false;  // the policies of an evaluation for the training split, too; val and test always have them
  InputLimits limits;
  std::function<void(int64_t done, int64_t total)> progress;  // of the images' reading; called from several threads
};

// Reads one split and reports every defect in `findings` (appended). Nothing is dropped without a finding, and all of
// it is counted in Dataset::summary. Where findings fall under a policy of "error", std::runtime_error names the first
// of each kind (file, place, value), how many there are of how many, and the remedy that fits: the key of the policy,
// or what the file or folder was probably meant to be.
[[nodiscard]] Dataset read_dataset(const DatasetConfig& config, Split split, std::vector<Finding>& findings,
                                   const ReadOptions& options);
[[nodiscard]] inline Dataset read_dataset(const DatasetConfig& config, Split split, std::vector<Finding>& findings,
                                          bool decode = false) {
  return read_dataset(config, split, findings, ReadOptions{.decode = decode, .progress = {}});
}

// Of the classes that `config.classes` names, those without a usable box in a training split.
[[nodiscard]] std::vector<std::string> classes_without_boxes(const DatasetConfig& config, const Dataset& training);

// Why the training split cannot be trained on: no usable box at all, or, if config.missing_class says that this is an
// error, none of a class that `config.classes` names. Empty: it can. `findings` of its reading say why boxes are
// missing.
[[nodiscard]] std::string training_problem(const DatasetConfig& config, const Dataset& dataset,
                                           const std::vector<Finding>& findings);

// Everything `inspect data` prints: findings of all splits, counts per kind and action, images and boxes per class,
// split and group, box size quantiles. Never throws for defects of the data: what training or an evaluation would stop
// at is a finding with the action `fatal`.
struct DatasetReport {
  std::vector<Finding> findings;
  std::string text;  // for a person: of each kind the first few findings
  std::string json;  // for a program: all of them
};
struct InspectOptions {
  InputLimits limits;
  int64_t shown = 10;  // findings of each kind in the text; 0: all
};
[[nodiscard]] DatasetReport inspect_dataset(const DatasetConfig& config, const InspectOptions& options = {});

}  // namespace gradlibra
