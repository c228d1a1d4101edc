// SPDX-License-Identifier: MIT
// Boxes of slides out of a table.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <stdexcept>

#include "data/datasets/did_you_mean.h"
#include "data/datasets/lines.h"
#include "data/slides/slide_set.h"
#include "runtime/base/numbers.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

using Kind = Finding::Kind;
using Action = Finding::Action;

constexpr std::array<const char*, 6> kColumns{"image", "class", "xmin", "ymin", "xmax", "ymax"};

// Fields of a line; quotes around a field come off, "" inside stands for one.
std::vector<std::string> split(std::string_view line, char separator) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '"' && quoted && i + 1 < line.size() && line[i + 1] == '"') {
      fields.back() += line[++i];
    } else if (c == '"') {
      quoted = !quoted;
    } else if (c == separator && !quoted) {
      fields.emplace_back();
    } else {
      fields.back() += c;
    }
  }
  for (std::string& field : fields) field = std::string(trim(field));
  return fields;
}

double number(const std::string& text) {
  return parse_number<double>(text).value_or(std::numeric_limits<double>::quiet_NaN());
}

}  // namespace

RawSplit read_slide_csv(Reading& reading, const std::filesystem::path& file) {
  const std::string text = read_text(file, kMaxAnnotationBytes);
  RawSplit result;
  std::map<std::string, size_t> index;
  std::set<std::string> names;
  std::array<size_t, 6> column{};
  size_t columns = 0;
  char separator = ',';
  for (const auto& [line, line_number] : lines_of(text)) {
    const std::string where = fmt::format("line {}", line_number);
    if (result.images_listed == 0 && index.empty() && names.empty() && column == std::array<size_t, 6>{}) {
      for (const char candidate : {';', '\t'})
        if (line.find(candidate) != std::string_view::npos) separator = candidate;
      const std::vector<std::string> head = split(line, separator);
      for (size_t c = 0; c < kColumns.size(); ++c) {
        const auto found =
            std::find_if(head.begin(), head.end(), [&](const std::string& h) { return lower_case(h) == kColumns[c]; });
        if (found == head.end())
          throw std::runtime_error(
              fmt::format("{}: {}: no column '{}': the first line must name image, class, xmin, "
                          "ymin, xmax, ymax; it is '{}'",
                          file.string(), where, kColumns[c], escaped(line.substr(0, 100))));
        column[c] = static_cast<size_t>(found - head.begin());
        if (std::any_of(found + 1, head.end(), [&](const std::string& h) { return lower_case(h) == kColumns[c]; }))
          throw std::runtime_error(fmt::format("{}: {}: has two columns '{}': which is meant? Rename the other",
                                               file.string(), where, kColumns[c]));
      }
      columns = head.size();
      continue;
    }
    const std::vector<std::string> fields = split(line, separator);
    // Whatever stands behind the one that is too many has moved, so that no number can be trusted.
    if (fields.size() > columns && std::any_of(fields.begin() + static_cast<std::ptrdiff_t>(columns), fields.end(),
                                               [](const std::string& field) { return !field.empty(); })) {
      ++result.refused_boxes;
      reading.log.judge(
          {Kind::bad_annotation, Action::object_dropped, file.string(), where,
           fmt::format("has {} fields where the first line names {}: a decimal comma, or a '{}' in a name "
                       "without quotes? '{}'",
                       fields.size(), columns, separator == '\t' ? "tab" : std::string(1, separator),
                       escaped(line.substr(0, 100)))},
          "", kAlwaysError);
      continue;
    }
    const auto field = [&](size_t c) { return column[c] < fields.size() ? fields[column[c]] : std::string(); };
    if (field(0).empty()) {
      ++result.refused_boxes;
      static_cast<void>(judge_unreadable(
          reading, {Kind::bad_annotation, Action::object_dropped, file.string(), where, "names no image"}));
      continue;
    }
    const auto [entry, fresh] = index.emplace(field(0), result.images.size());
    if (fresh) {
      ++result.images_listed;
      RawImage image;
      image.id = escaped(field(0));
      image.image_name = field(0);
      image.annotation_file = file.string();
      image.where = where;
      result.images.push_back(std::move(image));
    }
    RawImage& image = result.images[entry->second];
    if (field(1).empty() && field(2).empty() && field(3).empty() && field(4).empty() && field(5).empty()) continue;
    RawObject object;
    object.class_name = field(1);
    object.where = where;
    object.spelled =
        fmt::format("({}, {}, {}, {})", escaped(field(2)), escaped(field(3)), escaped(field(4)), escaped(field(5)));
    object.x1 = number(field(2));
    object.y1 = number(field(3));
    object.x2 = number(field(4));
    object.y2 = number(field(5));
    object.unit = std::min({object.x1, object.y1, object.x2, object.y2}) >= 0 &&
                  std::max({object.x1, object.y1, object.x2, object.y2}) <= 1;
    if (!object.class_name.empty()) names.insert(object.class_name);
    image.objects.push_back(std::move(object));
  }
  if (result.images.empty()) throw std::runtime_error(file.string() + ": lists no slide");
  result.classes.assign(names.begin(), names.end());
  return result;
}

}  // namespace gradlibra
