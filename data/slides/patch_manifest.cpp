// SPDX-License-Identifier: MIT
#include "data/slides/patch_manifest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "data/datasets/did_you_mean.h"
#include "runtime/base/files.h"
#include "runtime/base/json_text.h"
#include "runtime/base/utf8.h"
#include "runtime/base/xxh64.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int64_t kPieces = 16, kPiecesBeside = 2, kPieceBytes = 128 << 10;

// Goes on from `hash`. A file that is no longer than its pieces is hashed whole.
uint64_t hash_pieces(const fs::path& file, int64_t pieces, uint64_t hash) {
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  const auto size = static_cast<int64_t>(in.tellg());
  if (size <= pieces * kPieceBytes) pieces = 1;
  const int64_t bytes = pieces == 1 ? std::max<int64_t>(0, size) : kPieceBytes;
  std::string piece(static_cast<size_t>(bytes), '\0');
  for (int64_t i = 0; i < pieces; ++i) {
    in.seekg((size - bytes) * i / std::max<int64_t>(1, pieces - 1));
    if (!in.read(piece.data(), bytes)) throw ReadError(file.string() + ": cannot be read");
    hash = xxh64(std::as_bytes(std::span(piece)), hash);
  }
  return hash;
}

// Of an .mrxs slide the pixels lie in files of a folder beside it.
std::vector<fs::path> files_beside(const fs::path& slide) {
  std::vector<fs::path> files;
  if (lower_case(slide.extension().string()) != ".mrxs") return files;
  std::error_code error;
  for (fs::directory_iterator at(fs::path(slide).replace_extension(), error), end; !error && at != end;
       at.increment(error))
    if (std::error_code unknown; at->is_regular_file(unknown)) files.push_back(at->path());
  std::sort(files.begin(), files.end());
  return files;
}

// Null where there is none.
Json value_of(const Json& json, const std::string& key) {
  const auto found = json.find(key);
  return found == json.end() ? Json() : *found;
}

// Whether a value that both have is another one.
bool differ(const Json& a, const Json& b, std::initializer_list<const char*> keys) {
  return std::any_of(keys.begin(), keys.end(),
                     [&](const char* key) { return a.contains(key) && b.contains(key) && a[key] != b[key]; });
}

// The list `slides` of a manifest as an object, by their names.
Json slides_by_name(const Json& manifest) {
  Json slides = Json::object();
  for (const Json& slide : value_of(manifest, "slides"))
    if (const Json name = value_of(slide, "name"); name.is_string()) slides[name.get<std::string>()] = slide;
  return slides;
}

// Empty where nothing differs that does not follow from other options.
std::string slide_difference(const Json& found, const Json& wanted) {
  if (wanted.is_null()) return "no longer given";
  if (found.is_null()) return "not in the set";
  std::vector<std::string> parts;
  if (differ(found, wanted, {"file", "file_bytes", "file_xxh64", "width", "height"})) parts.emplace_back("file");
  if (differ(found, wanted, {"annotations_xxh64", "boxes"})) parts.emplace_back("annotations");
  if (differ(found, wanted, {"split", "group"})) parts.emplace_back("split");
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::vector<std::string> slide_differences(const Json& found, const Json& wanted) {
  Json all = found;
  all.update(wanted);
  std::vector<std::string> differences;
  for (const auto& [name, slide] : all.items())
    if (const std::string what = slide_difference(value_of(found, name), value_of(wanted, name)); !what.empty())
      differences.push_back(fmt::format("slide {}: {}", escaped(name), what));
  constexpr size_t kShown = 3;
  if (differences.size() > kShown) {
    const size_t more = differences.size() - kShown;
    differences.resize(kShown);
    differences.push_back(fmt::format("{} more slide{}", more, more == 1 ? "" : "s"));
  }
  return differences;
}

std::vector<std::string> differences_of(const Json& found, const Json& wanted) {
  std::vector<std::string> differences, options;
  const Json found_options = value_of(found, "options");
  for (const auto& [name, value] : wanted["options"].items())
    if (differ(found_options, wanted["options"], {name.c_str()})) options.push_back(name);
  if (!options.empty()) differences.push_back(fmt::format("options {}", fmt::join(options, ", ")));
  if (differ(found, wanted, {"classes"}))
    differences.emplace_back("classes");
  else if (differ(found, wanted, {"category_ids"}))
    differences.emplace_back("category_ids");
  for (std::string& difference : slide_differences(slides_by_name(found), slides_by_name(wanted)))
    differences.push_back(std::move(difference));
  if (differences.empty() && differ(found, wanted, {"findings"})) differences.emplace_back("findings");
  if (differences.empty() && differ(found, wanted, {"warnings"})) differences.emplace_back("warnings");
  return differences;
}

// Of what make-patches writes as much as is compared.
bool is_manifest(const Json& json) {
  const Json slides = value_of(json, "slides");
  return value_of(json, "options").is_object() && slides.is_array() && !slides.empty() &&
         std::all_of(slides.begin(), slides.end(),
                     [](const Json& slide) { return value_of(slide, "name").is_string(); });
}

bool has_hashes(const Json& manifest) {
  const Json slides = slides_by_name(manifest);
  return std::all_of(slides.begin(), slides.end(), [](const Json& slide) {
    return slide.contains("file_xxh64") && slide.contains("annotations_xxh64");
  });
}

}  // namespace

std::string hash_annotations(const AnnotatedSlide& slide) {
  std::string text;
  for (const Object& object : slide.objects) {
    const Box& b = object.box;
    text += fmt::format("{} {} {} {} {} {} {} {};", object.label, b.x1, b.y1, b.x2, b.y2, object.difficult,
                        object.crowd, object.area);
  }
  return xxh64_hex(std::as_bytes(std::span(text)));
}

std::string hash_slide(const fs::path& file) {
  uint64_t hash = hash_pieces(file, kPieces, 0);
  for (const fs::path& beside : files_beside(file)) {
    std::error_code error;
    const std::string what = fmt::format("{} {};", beside.filename().string(), fs::file_size(beside, error));
    hash = hash_pieces(beside, kPiecesBeside, xxh64(std::as_bytes(std::span(what)), hash));
  }
  return fmt::format("{:016x}", hash);
}

std::string why_another_set(const std::string& found, const std::string& wanted) {
  const Json of_set = parse_json_or_discard(found), now = parse_json(wanted);
  if (!is_manifest(of_set)) return "its patches.json is damaged: what the set was made of cannot be told";
  const std::vector<std::string> differences = differences_of(of_set, now);
  if (!differences.empty())
    return fmt::format("holds patches of other slides, annotations or options ({})", fmt::join(differences, "; "));
  if (!has_hashes(of_set))
    return "was finished by an earlier version: its patches.json has no hashes of slides and annotations, and whether "
           "they are still the same cannot be told";
  return "its patches.json is another one than for these slides, annotations and options: it was edited, or another "
         "version made the set";
}

}  // namespace gradlibra
