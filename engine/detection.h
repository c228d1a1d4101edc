// SPDX-License-Identifier: MIT
// Detection on loose images: what is taken of a folder and what is not, one picture and one entry after the other.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "engine/evaluation.h"

namespace gradlibra {

// Images of a folder, in the order of their names, and in words what else lies there: files of other formats by
// extension, folders (of which `recursive` takes the images). A single file is a list of one. std::runtime_error if
// there is none.
struct ImageList {
  std::filesystem::path root;
  std::vector<std::filesystem::path> files;
  std::vector<std::string> left_out;
};
[[nodiscard]] ImageList list_images(const std::filesystem::path& input, bool recursive);

// An id for each: the path from the root without its extension if that makes all of them different, else with it.
[[nodiscard]] std::vector<std::string> image_ids(const ImageList& list);

// The images as a data set without annotations. What cannot be an image is told to bad(message) and left out; pixels
// are not read yet.
[[nodiscard]] Dataset as_dataset(const ImageList& list, const std::vector<std::string>& classes, bool apply_exif,
                                 const std::function<void(const std::string&)>& bad);

// detect_each() over images of which some cannot be read: those are told to bad(message), the others are done. Ends
// early, and returns false, once `signal` is not 0.
bool detect_readable(Detector& detector, const Dataset& dataset, const ExperimentConfig& config,
                     const std::atomic<int>& signal, const DetectionSink& sink,
                     const std::function<void(const std::string&)>& bad);

}  // namespace gradlibra
