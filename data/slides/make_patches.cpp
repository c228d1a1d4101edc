// SPDX-License-Identifier: MIT
#include "data/slides/make_patches.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <string_view>
#include <unordered_set>

#include "data/slides/patch_manifest.h"
#include "data/slides/slide_readers.h"
#include "runtime/base/files.h"
#include "runtime/base/in_parallel.h"
#include "runtime/base/json_text.h"
#include "runtime/base/processors.h"
#include "runtime/base/random.h"
#include "runtime/base/xxh64.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kManifest = "patches.json";
constexpr const char* kLock = "make_patches.lock";
constexpr const char* kRecords = "records";
constexpr int64_t kMaxRecordBytes = 64LL << 20;

// The folder that a set grows in: this process's alone, until it gets its name.
class Workplace {
 public:
  explicit Workplace(const fs::path& output)
      : output_(output.filename().empty() ? output.parent_path() : output), part_(output_.string() + ".part") {
    check_output();
    std::error_code error;
    if (fs::exists(part_, error) && !fs::exists(part_ / kLock, error) && !fs::is_empty(part_, error))
      throw std::runtime_error(part_.string() + ": is in the way, and make-patches did not make it");
    continued_ = fs::exists(part_ / kLock, error);
    fs::create_directories(part_, error);
    if (error) throw WriteError(part_.string() + ": cannot be made: " + error.message());
    lock_ = ::open((part_ / kLock).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (lock_ < 0) throw WriteError(file_failure("cannot create", part_ / kLock, errno));
    if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
      ::close(lock_);
      throw std::runtime_error(part_.string() + ": another make-patches is at work here");
    }
  }
  ~Workplace() { ::close(lock_); }
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;

  [[nodiscard]] const fs::path& folder() const { return part_; }
  [[nodiscard]] bool continued() const { return continued_; }

  void finish() {
    if (std::rename(part_.c_str(), output_.c_str()) != 0)
      throw WriteError(file_failure("cannot rename the finished " + part_.string() + " to", output_, errno));
    std::error_code error;  // a set is whole with them, too
    fs::remove_all(output_ / kRecords, error);
    fs::remove(output_ / kLock, error);
  }

 private:
  void check_output() {
    std::error_code error;
    if (!fs::exists(output_, error)) return;
    if (!fs::is_directory(output_, error) || !fs::is_empty(output_, error))
      throw std::runtime_error(output_.string() + ": is not empty: choose another folder, or take away what it holds");
    // The finished folder could not be moved onto another file system.
    struct stat own {
    }, above{};
    const fs::path parent = fs::absolute(output_).parent_path();
    if (::stat(output_.c_str(), &own) == 0 && ::stat(parent.c_str(), &above) == 0 && own.st_dev != above.st_dev)
      throw std::runtime_error(output_.string() + ": is a mounted file system: choose a folder inside it");
  }

  fs::path output_, part_;
  bool continued_ = false;
  int lock_ = -1;
};

// All that a slide's patches depend on.
Json fingerprint(const PatchSet& set, size_t index) {
  const AnnotatedSlide& slide = set.slides.slides[index];
  const PatchOptions& o = set.options;
  std::string classes;
  for (const std::string& name : set.slides.classes) classes += name + "\n";
  struct stat info {};
  static_cast<void>(::stat(slide.path.c_str(), &info));
  return {{"file", slide.path.filename().string()},
          {"file size", info.st_size},
          {"file time", fmt::format("{}.{:09}", info.st_mtim.tv_sec, info.st_mtim.tv_nsec)},
          {"file content", hash_slide(slide.path)},
          {"split", set.division.split_of[index]},
          {"boxes", hash_annotations(slide)},
          {"classes", fmt::format("{:016x}", hash_name(classes.data(), classes.size()))},
          {"--size", o.size},
          {"--overlap", o.overlap},
          {"--edge", static_cast<int>(o.edge)},
          {"--test-edge", static_cast<int>(o.test_edge)},
          {"cut", o.cut.text()},
          {"--background", o.background},
          {"--val-background", o.val_background},
          {"--seed", o.seed},
          {"--fill", o.fill},
          {"--format", o.format},
          {"--image", o.image}};
}

// How far a slide has come.
struct Progress {
  bool begun = false, finished = false;  // with this very fingerprint
  std::string changed;                   // otherwise: what has changed since
  std::string sizes;                     // finished: Maker::hash_of_sizes
};
Progress read_record(const fs::path& file, const Json& wanted) {
  std::error_code error;
  if (!fs::exists(file, error)) return {};
  const Json record = parse_json_or_discard<Json>(read_file(file, kMaxRecordBytes));
  if (!record.is_object() || !record.contains("of")) return {};
  const Json& found = record["of"];
  Progress progress;
  if (found == wanted) {
    progress.begun = true;
    progress.finished = record.contains("finished") && record["finished"] == true;
    if (record.contains("sizes") && record["sizes"].is_string()) progress.sizes = record["sizes"].get<std::string>();
    return progress;
  }
  for (const auto& [key, value] : wanted.items())
    if (!found.contains(key) || found[key] != value) progress.changed += (progress.changed.empty() ? "" : ", ") + key;
  return progress;
}

// Whether a picture has its format's end: all of its bytes were written, and none were cut off.
bool is_whole_picture(const fs::path& file) {
  const std::string_view end =
      file.extension() == ".png" ? std::string_view("\0\0\0\0IEND\xae\x42\x60\x82", 12) : std::string_view("\xff\xd9");
  std::ifstream in(file, std::ios::binary);
  std::string found(end.size(), '\0');
  in.seekg(-static_cast<std::streamoff>(end.size()), std::ios::end);
  return in.read(found.data(), static_cast<std::streamsize>(found.size())) && found == end;
}

class Maker {
 public:
  Maker(const PatchSet& set, const fs::path& folder, const std::function<void(const std::string&)>& say)
      : set_(set), folder_(folder), say_(say) {}

  void run() {
    const std::vector<AnnotatedSlide>& slides = set_.slides.slides;
    const auto jobs = static_cast<size_t>(set_.options.jobs > 0 ? set_.options.jobs : usable_processors());
    int64_t largest = 1;
    for (const AnnotatedSlide& slide : slides) largest = std::max(largest, slide.memory + patch_bytes() * 4);
    const auto fitting = static_cast<size_t>(std::max<int64_t>(1, set_.options.memory_bytes / largest));
    const size_t side_by_side = std::min({jobs, fitting, slides.size()});
    threads_ = std::max<size_t>(1, jobs / side_by_side);
    fs::create_directories(folder_ / picture_folder(set_.options));
    in_parallel(slides.size(), side_by_side, [&](size_t i) {
      try {
        make(i);
      } catch (const WriteError&) {
        throw;
      } catch (const std::runtime_error& error) {
        note_failure(error.what());
      }
    });
    if (failures_.empty()) return;
    std::string text = fmt::format("{} of {} slides could not be read:\n", failures_.size(), slides.size());
    std::sort(failures_.begin(), failures_.end());
    for (const std::string& failure : failures_) text += "  " + failure + "\n";
    throw std::runtime_error(
        fmt::format("{}the others are finished in {}: mend these or take them away, and the same command goes on from "
                    "there",
                    text, folder_.string()));
  }

  // std::runtime_error names the first file that a finished set has no more.
  void check_finished() const {
    const auto check = [&](const fs::path& file, bool may_be_empty = false) {
      std::error_code error;
      if (fs::is_regular_file(file, error) && (may_be_empty || fs::file_size(file, error) > 0)) return;
      throw std::runtime_error(
          fmt::format("{}: is gone or empty, though the set was finished: put it back, or take {} away, and the same "
                      "command makes the set again",
                      file.string(), folder_.string()));
    };
    // A VOC list of a split without a patch is.
    for (const fs::path& file : annotation_files(set_)) check(folder_ / file, file.extension() == ".txt");
    for (size_t i = 0; i < set_.slides.slides.size(); ++i) {
      const AnnotatedSlide& slide = set_.slides.slides[i];
      for (const Patch& patch : plan(i).patches) {
        check(picture(slide, patch));
        if (set_.options.format == "voc") check(annotation(slide, patch));
      }
    }
  }

  // Takes away what no slide of the set has: of earlier calls with other input, and halves of files.
  void sweep() const {
    std::unordered_set<std::string> wanted;
    for (size_t i = 0; i < set_.slides.slides.size(); ++i)
      for (const Patch& patch : plan(i).patches)
        wanted.insert(patch_name(set_.slides.slides[i].name, patch.x, patch.y));
    const std::string picture = "." + set_.options.image;
    for (const auto& [folder, extension] :
         {std::pair(picture_folder(set_.options), picture), {fs::path("Annotations"), std::string(".xml")}}) {
      if (!fs::exists(folder_ / folder)) continue;
      for (const fs::directory_entry& entry : fs::directory_iterator(folder_ / folder))
        if (entry.path().extension() != extension || !wanted.contains(entry.path().stem().string()))
          fs::remove_all(entry.path());
    }
    const fs::path other = set_.options.format == "voc" ? "images" : "JPEGImages";
    fs::remove_all(folder_ / other);
    if (set_.options.format == "coco") fs::remove_all(folder_ / "Annotations");
    for (const char* lists : {"annotations", "ImageSets", "classes.yaml", kManifest}) fs::remove_all(folder_ / lists);
  }

 private:
  [[nodiscard]] int64_t patch_bytes() const { return static_cast<int64_t>(set_.options.size) * set_.options.size * 3; }
  [[nodiscard]] SlidePlan plan(size_t i) const {
    return plan_slide(set_.slides.slides[i], static_cast<Split>(set_.division.split_of[i]), set_.slides.classes.size(),
                      set_.options);
  }
  void note_failure(std::string what) {
    const std::lock_guard lock(mutex_);
    say_("FAILED: " + what);
    failures_.push_back(std::move(what));
  }
  void note(const std::string& text) {
    const std::lock_guard lock(mutex_);
    say_(text);
  }

  [[nodiscard]] fs::path picture(const AnnotatedSlide& slide, const Patch& patch) const {
    return folder_ / picture_folder(set_.options) / picture_name(slide, patch, set_.options);
  }
  [[nodiscard]] fs::path annotation(const AnnotatedSlide& slide, const Patch& patch) const {
    return folder_ / "Annotations" / (patch_name(slide.name, patch.x, patch.y) + ".xml");
  }
  [[nodiscard]] bool is_there(const AnnotatedSlide& slide, const Patch& patch) const {
    if (!is_whole_picture(picture(slide, patch))) return false;
    std::error_code error;
    return set_.options.format == "coco" ||
           fs::file_size(annotation(slide, patch), error) == voc_annotation(set_, slide, patch).size();
  }
  // Of the bytes that each picture has; the same input gives the same.
  [[nodiscard]] std::string hash_of_sizes(const AnnotatedSlide& slide, const std::vector<Patch>& patches) const {
    std::string text;
    for (const Patch& patch : patches) {
      std::error_code error;
      text += fmt::format("{};", fs::file_size(picture(slide, patch), error));
    }
    return xxh64_hex(std::as_bytes(std::span(text)));
  }

  void make(size_t index) {
    const auto begin = std::chrono::steady_clock::now();
    const AnnotatedSlide& slide = set_.slides.slides[index];
    const char* split = to_string(static_cast<Split>(set_.division.split_of[index]));
    const Json of = fingerprint(set_, index);
    const fs::path record = folder_ / kRecords / (slide.name + ".json");
    const Progress progress = read_record(record, of);
    const std::vector<Patch> all = plan(index).patches;
    std::vector<Patch> patches = all;
    if (progress.begun) std::erase_if(patches, [&](const Patch& patch) { return is_there(slide, patch); });
    // A record of an earlier version has no sizes: its pictures are whole, and no more is known.
    const bool same_sizes = progress.sizes.empty() || hash_of_sizes(slide, all) == progress.sizes;
    if (progress.finished && patches.empty() && same_sizes) {
      note(fmt::format("{} ({}): {} patches, finished before", slide.name, split, all.size()));
      return;
    }
    if (!progress.begun) {
      // Patches of other input must not pass for those of this one after another interruption.
      for (const Patch& patch : patches) {
        std::error_code error;
        fs::remove(picture(slide, patch), error);
        fs::remove(annotation(slide, patch), error);
      }
      write_file(record, Json{{"of", of}, {"finished", false}}.dump());
    }
    if (!patches.empty()) make_patches_of(slide, patches);
    // Which of those that were there is another one cannot be told.
    if (progress.finished && !progress.sizes.empty() && hash_of_sizes(slide, all) != progress.sizes)
      make_patches_of(slide, patches = all);
    write_file(record, Json{{"of", of}, {"finished", true}, {"sizes", hash_of_sizes(slide, all)}}.dump());
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    note(fmt::format("{} ({}): {} patches in {:.1f} s{}", slide.name, split, all.size(), seconds.count(),
                     progress.begun             ? fmt::format(", {} were there", all.size() - patches.size())
                     : progress.changed.empty() ? ""
                                                : fmt::format(", anew: changed {}", progress.changed)));
  }

  // In the order of rows, which slides without another way in need.
  void make_patches_of(const AnnotatedSlide& slide, const std::vector<Patch>& patches) {
    const std::unique_ptr<Slide> source = open_slide(slide.path, set_.options.memory_bytes);
    if (source->width() != slide.width || source->height() != slide.height)
      throw std::runtime_error(slide.path.string() + ": has changed its size since it was looked at");
    const size_t chunk = 2 * threads_;
    std::vector<Image> pictures(chunk);
    for (size_t first = 0; first < patches.size(); first += chunk) {
      const size_t count = std::min(chunk, patches.size() - first);
      for (size_t k = 0; k < count; ++k) pictures[k] = crop(*source, patches[first + k]);
      in_parallel(count, threads_, [&](size_t k) {
        const Patch& patch = patches[first + k];
        write_patch(picture(slide, patch), pictures[k]);
        if (set_.options.format == "voc") write_file(annotation(slide, patch), voc_annotation(set_, slide, patch));
      });
    }
  }

  [[nodiscard]] Image crop(Slide& source, const Patch& patch) const {
    const int size = set_.options.size;
    Image region{std::min(size, source.width() - patch.x), std::min(size, source.height() - patch.y), {}};
    region.pixels.resize(static_cast<size_t>(region.width) * region.height * 3);
    source.read(patch.x, patch.y, region);
    if (region.width == size && region.height == size) return region;
    Image padded{size, size, {}};
    padded.pixels.assign(static_cast<size_t>(size) * size * 3, static_cast<uint8_t>(set_.options.fill));
    for (int y = 0; y < region.height; ++y)
      std::copy_n(region.at(0, y), static_cast<size_t>(region.width) * 3, padded.at(0, y));
    return padded;
  }

  const PatchSet& set_;
  const fs::path& folder_;
  const std::function<void(const std::string&)>& say_;
  size_t threads_ = 1;
  std::mutex mutex_;
  std::vector<std::string> failures_;
};

}  // namespace

MadePatches make_patches(const PatchSet& set, const fs::path& output,
                         const std::function<void(const std::string&)>& say) {
  check_options(set.options);
  const PatchSummary summary = summarize(set);
  std::error_code error;
  if (fs::exists(output / kManifest, error)) {
    const std::string found = read_file(output / kManifest, kMaxRecordBytes);
    if (found == summary.manifest) {
      Maker(set, output, say).check_finished();
      return {true, summary.table};
    }
    throw std::runtime_error(fmt::format("{}: {}; choose another folder, or take this one away", output.string(),
                                         why_another_set(found, summary.manifest)));
  }
  Workplace place(output);
  Maker maker(set, place.folder(), say);
  if (place.continued()) maker.sweep();
  maker.run();
  write_annotations(set, place.folder());
  write_file(place.folder() / kManifest, summary.manifest, WriteOptions{.durable = true, .temporary = {}});
  place.finish();
  return {false, summary.table};
}

}  // namespace gradlibra
