// SPDX-License-Identifier: MIT
// Detection on loose images, one picture and one entry after the other.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data/datasets/image_folder.h"
#include "engine/evaluation.h"

namespace gradlibra {

// The images as a data set without annotations. What cannot be an image is told to bad(message) and left out; pixels
// are not read yet.
[[nodiscard]] Dataset as_dataset(const ImageFolder& list, const std::vector<std::string>& classes, bool apply_exif,
                                 const std::function<void(const std::string&)>& bad);

// detect_each() over images of which some cannot be read, or are larger than the network's input and must keep their
// size: those are told to bad(message), the others are done. Ends
// early, and returns false, once `signal` is not 0.
bool detect_readable(Detector& detector, const Dataset& dataset, const ExperimentConfig& config,
                     const std::atomic<int>& signal, const DetectionSink& sink,
                     const std::function<void(const std::string&)>& bad);

}  // namespace gradlibra
