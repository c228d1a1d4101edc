// SPDX-License-Identifier: MIT
// Annotated images as the rest of the program sees them: class list, groups, splits, boxes; and what was wrong in the
// files.
#pragma once

#include <cstdint>
#include <filesystem>
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

struct ImageRecord {
  std::string id;              // VOC: file stem; COCO: the image id as decimal text
  std::filesystem::path path;  // the image file
  int width = 0, height = 0;   // of the decoded image
  std::vector<Object> objects;
};

struct Dataset {
  std::vector<std::string> classes;
  std::map<std::string, std::vector<std::string>> groups;  // "frequent" / "common" / "rare" -> class names
  std::vector<ImageRecord> images;                         // in split order (VOC) or ascending id (COCO)
  std::map<std::string, int64_t> category_ids;             // COCO: the file's id of each class; empty for VOC
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
    no_objects,                // an image without boxes (information: it still trains)
    guessed_file_name,         // file_name without extension, resolved to an existing file
    wrong_extension,           // a PNG called .jpg or the like (read by its content)
    class_missing_from_image,  // lacks the class that nearly all others hold: perhaps not fully labelled (information)
  };
  enum class Action { none, fixed, clipped, object_dropped, image_dropped, fatal };
  Kind kind;
  Action action;
  std::string file;     // the annotation or image file
  std::string where;    // "line 12", "object 3", "annotations[17].bbox": empty if the file is the place
  std::string message;  // what was found, with the values
};

[[nodiscard]] const char* to_string(Finding::Kind kind);
[[nodiscard]] const char* to_string(Finding::Action action);

struct DatasetConfig {
  std::string format = "voc";  // voc | coco
  std::string root = "";
  std::vector<std::string> classes;
  std::map<std::string, std::vector<std::string>> groups;
  // VOC: ImageSets/Main/<name>.txt. COCO: <name>, <name>.json, annotations/<name>.json or
  // annotations/instances_<name>.json under root. Empty: there is no such split.
  std::string train = "train", val = "val", test = "test";
  std::string image_dir = "";       // under root; empty: JPEGImages (VOC), images (COCO)
  std::string annotation_dir = "";  // under root; VOC only, empty: Annotations
  // VOC files count pixels from 1: (xmin, ymin, xmax, ymax) becomes (xmin - 1, ymin - 1, xmax - 1, ymax - 1), as
  // MMDetection reads them, so that a box over all of a W x H image is (0, 0, W - 1, H - 1). Fractions are kept. false:
  // as written.
  bool voc_one_based = true;
  std::string unknown_class = "error";  // error | drop
  // error | drop: empty, not finite, wholly outside (partly outside is clipped, swapped is put right)
  std::string bad_box = "drop";
  // error | drop: missing, unreadable or mis-sized images, images without annotation; of a training split only: in an
  // evaluation they are always errors, or the result would be that of another data set.
  std::string bad_image = "error";
  std::string exif = "ignore";  // ignore | apply: pixels as stored, or turned upright by the EXIF orientation
  bool filter_empty = false;    // leave images without boxes out of training
  void describe(ConfigVisitor& v);
};

enum class Split { train, val, test };

// Reads one split and reports every defect in `findings` (appended). Nothing is dropped without a finding. With a
// policy of "error" the first offending finding is thrown as std::runtime_error naming file, place, value and the key
// of the policy. Image headers are read (size, EXIF); `decode` also decodes every image, which finds truncated files.
[[nodiscard]] Dataset read_dataset(const DatasetConfig& config, Split split, std::vector<Finding>& findings,
                                   bool decode = false);

// Everything `inspect data` prints: findings of all splits, counts per kind and action, images and boxes per class,
// split and group, box size quantiles. Never throws for defects of the data (policies are read as "drop").
struct DatasetReport {
  std::vector<Finding> findings;
  std::string text;  // for a person
  std::string json;  // the same for a program
};
[[nodiscard]] DatasetReport inspect_dataset(const DatasetConfig& config);

}  // namespace gradlibra
