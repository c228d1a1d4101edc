// SPDX-License-Identifier: MIT
// What a scan of a slide leaves: tables for programs, and a picture for a person.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/slides/slide.h"
#include "engine/scan/scan_slide.h"

namespace gradlibra {

// OUTPUT/SLIDE.csv, .geojson, .png, .json; and .HASH.part, a journal for each fingerprint, so that a call with other
// options costs nothing that was begun.
struct ScanFiles {
  std::filesystem::path table, geojson, cells, summary, journal;
};
// SlideError if the slide's name is too long for them.
[[nodiscard]] ScanFiles scan_files(const std::filesystem::path& output, const std::string& slide,
                                   const nlohmann::ordered_json& of);

// What earlier calls have left of a slide.
struct FormerScan {
  bool finished = false;  // with this very fingerprint: there is nothing to do
  std::string changed;    // else, if it was finished or begun with another one: what has changed since
};
[[nodiscard]] FormerScan former_scan(const ScanFiles& files, const nlohmann::ordered_json& of);

// Writes all of it, so that it outlives a power cut, the summary last, and takes the journal away, and
// those of another state of the slide or of other weights. A table that has
// been changed since it was written is somebody's work: it is kept under another name, which comes back; else empty.
[[nodiscard]] std::filesystem::path write_scan(const ScanFiles& files, const nlohmann::ordered_json& of,
                                               const SlideScan& scan, const Image& cells, const std::string& image,
                                               const std::vector<std::string>& classes);

// image,class,xmin,ymin,xmax,ymax,score: columns that make-patches reads, so that what was found and put right by a
// person can be trained on. Where nothing was found, a line that lists the slide.
[[nodiscard]] std::string scan_csv(const std::string& image, const std::vector<Detection>& found,
                                   const std::vector<std::string>& classes);

// GeoJSON as QuPath imports it: a rectangle for each detection, class and colour by its name, the score as a
// measurement. Coordinates are pixels of the slide.
[[nodiscard]] std::string scan_geojson(const std::vector<Detection>& found, const std::vector<std::string>& classes);

// The surest cells of each class that was found, a row each, all at one magnification. Reads the slide once more, from
// top to bottom, by regions of at most `most_rows` rows. SlideError. `found` is sorted, the surest first.
[[nodiscard]] Image draw_cells(Slide& slide, int most_rows, const std::vector<Detection>& found,
                               const std::vector<std::string>& classes, int most = 12);

// Objects of each class.
[[nodiscard]] std::vector<int64_t> count_classes(const std::vector<Detection>& found, size_t classes);

}  // namespace gradlibra
