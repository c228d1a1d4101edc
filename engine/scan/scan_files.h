// SPDX-License-Identifier: MIT
// What a scan of a slide leaves: tables for programs, and a picture for a person.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/slides/slide.h"
#include "engine/scan/scan_slide.h"
#include "runtime/base/files.h"

namespace gradlibra {

// OUTPUT/SLIDE.csv, .geojson, .png, .json; and .HASH.found, a journal for each fingerprint, so that other options cost
// nothing that was found.
struct ScanFiles {
  std::filesystem::path table, geojson, cells, summary, journal;
};
// SlideError if the slide's name is too long for them.
[[nodiscard]] ScanFiles scan_files(const std::filesystem::path& output, const std::string& slide,
                                   const nlohmann::ordered_json& of);

// What earlier calls have left of a slide.
struct FormerScan {
  bool finished = false;                      // with this very fingerprint, and all files are there
  std::vector<std::filesystem::path> edited;  // finished, but these are not as they were written
  std::vector<std::filesystem::path> gone;    // finished, but these are not there any more
  std::string changed;                        // what differs from what was done before, where nothing is there to go on
};
[[nodiscard]] FormerScan former_scan(const ScanFiles& files, const nlohmann::ordered_json& of);

// Takes away what calls that were killed have left half written. One process at a time owns the folder.
void remove_halves(const ScanFiles& files);

// Writes all but the journal, so that it outlives a power cut, and at any stop in between the next call sees what is
// whose. What lies under a name and was not written by a scan, or was changed since, is somebody's work: it becomes
// NAME.kept_1, and `say` tells so; but not where the same results are
// finished and a file is gone: then that is written, and no other. `by`: members for the summary, about the program.
// `calls`: WriteOptions.
void write_scan(const ScanFiles& files, const nlohmann::ordered_json& of, const nlohmann::ordered_json& by,
                const SlideScan& scan, const Image& cells, const std::string& image,
                const std::vector<std::string>& classes, const std::function<void(const std::string&)>& say,
                const FileCalls* calls = nullptr);

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
