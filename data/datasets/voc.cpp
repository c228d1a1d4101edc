// SPDX-License-Identifier: MIT
// PASCAL VOC: a text file lists a split's images, an XML file holds the objects of each.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <pugixml.hpp>
#include <set>
#include <string_view>
#include <unordered_set>

#include "data/datasets/annotations.h"
#include "data/datasets/did_you_mean.h"
#include "data/datasets/lines.h"
#include "runtime/base/files.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Kind = Finding::Kind;
using Action = Finding::Action;

// The entries of a split: name as its list has it, and where it stands.
struct Entry {
  std::string name, where;
};

// The lines of a list. Blank lines and a byte order mark are skipped. Names are those of files, so any bytes but NUL.
std::vector<Entry> read_list(const fs::path& file) {
  const std::string text = read_file(file, kMaxListBytes);
  std::string_view rest = text;
  if (const std::string problem = encoding_problem(text.substr(0, 64)); problem.find("UTF-16") != std::string::npos)
    throw std::runtime_error(file.string() + ": " + problem);
  if (rest.starts_with("\xef\xbb\xbf")) rest.remove_prefix(3);
  std::vector<Entry> entries;
  for (const auto& [name, line] : lines_of(rest)) entries.push_back({std::string(name), fmt::format("line {}", line)});
  return entries;
}

// What a split lists: the lines of its file, or all XML files of its folder.
struct Listing {
  fs::path file;  // for findings
  fs::path annotations;
  fs::path images;  // empty: data.image_dir
  std::vector<Entry> entries;
  FolderWalk walk;  // of a folder
};
bool is_xml(const fs::path& file) { return lower_case(file.extension().string()) == ".xml"; }

Listing list_split(const DatasetConfig& config, Split split) {
  Listing listing{split_file(config, split), annotation_folder(config), {}, {}, {}};
  if (!fs::is_directory(listing.file)) {
    listing.entries = read_list(listing.file);
    return listing;
  }
  listing.annotations = listing.file;
  // A folder per split holds its pictures, too.
  if (listing.file != annotation_folder(config)) listing.images = listing.file;
  listing.walk = walk_folder(listing.file);
  for (const std::string& file : files_of(listing.walk, is_xml))
    listing.entries.push_back({fs::path(file).replace_extension().string(), ""});
  if (listing.entries.empty())
    throw std::runtime_error(fmt::format("data.{}: {} holds no XML file", to_string(split), listing.file.string()));
  return listing;
}

// A number as people write it; NaN for anything else.
double number(std::string_view text) {
  text = trim(text);
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return std::numeric_limits<double>::infinity();
  if (error != std::errc{} || end != text.data() + text.size()) return std::numeric_limits<double>::quiet_NaN();
  return value;
}

// Where a character reference stands that the parser turns into a NUL byte, by which the text would end; npos: nowhere.
// The parser counts in 32 bits.
size_t find_nul_reference(std::string_view text) {
  for (size_t at = 0; (at = text.find_first_of("&<", at)) != std::string_view::npos; ++at) {
    // In comments and character data it is text.
    for (const auto& [opening, closing] : {std::pair{"<!--", "-->"}, std::pair{"<![CDATA[", "]]>"}})
      if (text.substr(at).starts_with(opening)) at = std::min(text.find(closing, at), text.size() - 1);
    if (text.substr(at, 2) != "&#") continue;
    const bool hex = text.substr(at + 2, 1) == "x";
    const size_t begin = at + (hex ? 3 : 2);
    const size_t end = text.find_first_not_of(hex ? "0123456789abcdefABCDEF" : "0123456789", begin);
    if (end == std::string_view::npos || end == begin || text[end] != ';') continue;
    uint32_t code = 0;
    for (const char c : text.substr(begin, end - begin)) {
      const auto digit = static_cast<uint32_t>(c <= '9' ? c - '0' : (c | ' ') - 'a' + 10);
      code = code * (hex ? 16 : 10) + digit;
    }
    if (code == 0) return at;
  }
  return std::string_view::npos;
}

class AnnotationReader {
 public:
  AnnotationReader(Reading& reading, RawImage& image, std::set<std::string>& names)
      : reading_(reading), config_(reading.config), log_(reading.log), image_(image), names_(names) {}

  // False if the file cannot be used at all; `why` and `where` then say what to report.
  bool read(const std::string& text, std::string& where, std::string& why) {
    text_ = &text;
    pugi::xml_document document;
    const pugi::xml_parse_result parsed = document.load_buffer(text.data(), text.size());
    if (!parsed) {
      where = fmt::format("line {}", line(parsed.offset));
      why = fmt::format("is not XML: {}", parsed.description());
      return false;
    }
    if (const size_t nul = find_nul_reference(text);
        nul != std::string::npos &&
        (parsed.encoding == pugi::encoding_utf8 || parsed.encoding == pugi::encoding_latin1)) {
      where = fmt::format("line {}", line(static_cast<std::ptrdiff_t>(nul)));
      why = fmt::format("is not XML: '{}' stands for no character", text.substr(nul, text.find(';', nul) + 1 - nul));
      return false;
    }
    const pugi::xml_node root = child(document, "annotation");
    if (!root) {
      const pugi::xml_node first = document.document_element();
      why = fmt::format("has no <annotation> element{}", first ? fmt::format(", but <{}>", escaped(first.name())) : "");
      return false;
    }
    file_name_ = content_of(child(root, "filename"));
    read_size(root);
    int index = 0;
    for (const pugi::xml_node node : root.children())
      if (is(node, "object")) read_object(node, index++);
    judge_unread_boxes(document);
    if (!other_case_.empty()) {
      log_.note(
          {Kind::tag_case, Action::none, image_.annotation_file, "",
           fmt::format("has <{}> where VOC has <{}>: capitals are overlooked", other_case_, lower_case(other_case_))});
    }
    return true;
  }

  [[nodiscard]] const std::string& file_name() const { return file_name_; }
  // Objects that could not be read as such.
  [[nodiscard]] int64_t refused() const { return refused_; }

 private:
  // Goes on from where it was asked for last, for the elements of a file come in their order.
  [[nodiscard]] std::ptrdiff_t line(std::ptrdiff_t offset) {
    const auto end = std::clamp<std::ptrdiff_t>(offset, 0, static_cast<std::ptrdiff_t>(text_->size()));
    if (end < counted_) counted_ = line_ends_ = 0;
    line_ends_ += std::count(text_->begin() + counted_, text_->begin() + end, '\n');
    counted_ = end;
    return 1 + line_ends_;
  }

  // Whether a node is the element of that (small-letter) name, in whatever capitals.
  bool is(const pugi::xml_node node, std::string_view name) {
    if (node.type() != pugi::node_element) return false;
    if (node.name() == name) return true;
    if (lower_case(node.name()) != name) return false;
    if (other_case_.empty()) other_case_ = node.name();
    return true;
  }
  pugi::xml_node child(const pugi::xml_node& parent, const char* name) {
    if (const pugi::xml_node exact = parent.child(name)) return exact;
    for (const pugi::xml_node node : parent.children())
      if (is(node, name)) return node;
    return {};
  }
  // The text of an element without the blanks around it; a comment in its middle divides it, but does not end it.
  static std::string content_of(const pugi::xml_node node) {
    std::string text;
    for (const pugi::xml_node part : node.children())
      if (part.type() == pugi::node_pcdata || part.type() == pugi::node_cdata) text += part.value();
    return std::string(trim(text));
  }
  // A number as text stands in an element; attributes (<bndbox xmin="3" ..>) are what some writers have instead.
  std::string text_of(const pugi::xml_node parent, const char* name) {
    if (const pugi::xml_node node = child(parent, name)) return content_of(node);
    return std::string(trim(parent.attribute(name).value()));
  }

  // Of these elements, which have one value, those that `parent` has with several: " <name>".
  std::string contradictions(const pugi::xml_node parent, std::initializer_list<const char*> names) {
    std::string found;
    for (const char* name : names) {
      std::optional<std::string> first;
      for (const pugi::xml_node node : parent.children()) {
        if (!is(node, name)) continue;
        const std::string value = content_of(node);
        if (!first) first = value;
        if (value == *first) continue;
        found += fmt::format(" <{}>", name);
        break;
      }
    }
    return found;
  }

  void read_size(const pugi::xml_node root) {
    const pugi::xml_node size = child(root, "size");
    for (const pugi::xml_node other : root.children()) {
      if (!is(other, "size")) continue;
      if (contradictions(other, {"width", "height"}).empty() && text_of(other, "width") == text_of(size, "width") &&
          text_of(other, "height") == text_of(size, "height"))
        continue;
      log_.note({Kind::bad_annotation, Action::none, image_.annotation_file,
                 fmt::format("line {}", line(other.offset_debug())),
                 "has two sizes in <size>: the image's own size is used"});
      return;
    }
    const std::string width_text = text_of(size, "width"), height_text = text_of(size, "height");
    const double width = number(width_text), height = number(height_text);
    if (width >= 1 && height >= 1 && width <= kMaxSide && height <= kMaxSide) {
      image_.width = static_cast<int64_t>(width);
      image_.height = static_cast<int64_t>(height);
      image_.size_where = fmt::format("line {}", line(size.offset_debug()));
      return;
    }
    log_.note({Kind::bad_annotation, Action::none, image_.annotation_file,
               size ? fmt::format("line {}", line(size.offset_debug())) : "",
               size ? fmt::format("<size> is {} x {}: the image's own size is used", width_text, height_text)
                    : "has no <size>: the image's own size is used"});
  }

  void read_object(const pugi::xml_node node, int index) {
    RawObject object;
    object.where = fmt::format("line {} (object {})", line(node.offset_debug()), index);
    object.class_name = content_of(child(node, "name"));
    object.difficult = read_flag(node, "difficult", object.where);
    const pugi::xml_node box = child(node, "bndbox");
    read_boxes_.insert(box.internal_object());
    const std::string several =
        contradictions(node, {"name", "difficult"}) + contradictions(box, {"xmin", "ymin", "xmax", "ymax"});
    if (!box || object.class_name.empty() || !several.empty()) {
      const Finding finding{Kind::bad_annotation, Action::object_dropped, image_.annotation_file, object.where,
                            !several.empty()
                                ? fmt::format("object with several values of{}; take away all but one", several)
                            : box ? "object without a <name>"
                                  : fmt::format("object '{}' without a <bndbox>", object.class_name)};
      ++refused_;
      object.unreadable = judge_unreadable(reading_, finding) && !object.class_name.empty();
      if (object.unreadable) image_.objects.push_back(std::move(object));
      return;
    }
    names_.insert(object.class_name);
    object.where = fmt::format("line {} (object {})", line(box.offset_debug()), index);
    const char* keys[4] = {"xmin", "ymin", "xmax", "ymax"};
    double side[4];
    object.unit = true;
    for (int i = 0; i < 4; ++i) {
      const std::string text = text_of(box, keys[i]);
      object.spelled += fmt::format("{}{}", i ? ", " : "(", text.empty() ? "missing" : escaped(text));
      side[i] = number(text);
      object.unit = object.unit && side[i] >= 0 && side[i] <= 1;
      if (text.find(',') != std::string::npos) object.hint = ": a decimal comma? write 12.5 for 12,5";
    }
    object.spelled += ")";
    if (config_.voc_one_based && !object.unit) {
      if (side[0] == 0 || side[1] == 0) {
        log_.note({Kind::zero_based, Action::clipped, image_.annotation_file, object.where,
                   fmt::format("'{}' {} has a coordinate 0 although voc_one_based is true: if all files count from 0, "
                               "set it to false",
                               object.class_name, object.spelled)});
        side[0] = side[0] == 0 ? 1 : side[0];
        side[1] = side[1] == 0 ? 1 : side[1];
      }
      for (double& v : side) v -= 1;
      image_.inset = 1;
    }
    object.x1 = side[0];
    object.y1 = side[1];
    object.x2 = side[2];
    object.y2 = side[3];
    image_.objects.push_back(std::move(object));
  }

  // Boxes that stand where VOC has none: a second one of an object, objects in a list of their own, elements of another
  // name, a second <annotation>. Those of an object's parts (heads and hands in VOC's own files) are no objects.
  void judge_unread_boxes(pugi::xml_document& document) {
    struct Walker : pugi::xml_tree_walker {
      std::vector<pugi::xml_node> boxes;
      bool for_each(pugi::xml_node& node) override {
        if (node.type() == pugi::node_element && lower_case(node.name()) == "bndbox" &&
            lower_case(node.parent().name()) != "part")
          boxes.push_back(node);
        return true;
      }
    } walker;
    document.traverse(walker);
    for (const pugi::xml_node box : walker.boxes) {
      if (read_boxes_.contains(box.internal_object())) continue;
      const pugi::xml_node holder = box.parent();
      RawObject object;
      object.class_name = content_of(child(holder, "name"));
      object.where = fmt::format("line {}", line(box.offset_debug()));
      std::string path;
      for (pugi::xml_node node = holder; node.type() == pugi::node_element && path.size() < 100; node = node.parent())
        path.insert(0, fmt::format("<{}>", escaped(node.name())));
      ++refused_;
      object.unreadable =
          judge_unreadable(reading_,
                           {Kind::bad_annotation, Action::object_dropped, image_.annotation_file, object.where,
                            fmt::format("a <bndbox> in {}, which is not read: VOC has one in each <object> of "
                                        "the one <annotation>",
                                        path)}) &&
          !object.class_name.empty();
      if (object.unreadable) image_.objects.push_back(std::move(object));
    }
  }

  bool read_flag(const pugi::xml_node node, const char* name, const std::string& where) {
    const std::string text = text_of(node, name);
    const std::optional<bool> flag = flag_of(text);
    if (!flag) {
      log_.note({Kind::bad_annotation, Action::none, image_.annotation_file, where,
                 fmt::format("<{}> is '{}', neither 0 nor 1: taken as 0", name, escaped(text))});
    }
    return flag.value_or(false);
  }

  static constexpr double kMaxSide = 1e9;
  Reading& reading_;
  const DatasetConfig& config_;
  FindingLog& log_;
  RawImage& image_;
  std::set<std::string>& names_;
  const std::string* text_ = nullptr;
  std::ptrdiff_t counted_ = 0, line_ends_ = 0;  // bytes of it, and the line ends in them
  std::string file_name_;
  std::unordered_set<const void*> read_boxes_;
  std::string other_case_;  // the first tag that is written in other capitals
  int64_t refused_ = 0;
};

// What a name without annotation may be: a list of another kind, or other capitals.
std::string why_missing(const std::string& name, const fs::path& file) {
  std::error_code error;
  if (name.find('\0') != std::string::npos) return "; the name holds a NUL byte";
  if (fs::is_symlink(file, error)) return ", which is a link that leads to nothing";
  if (!fs::is_directory(file.parent_path(), error)) return "; there is no such folder: is data.annotation_dir right?";
  if (format_by_name(name) && fs::exists(fs::path(file).replace_extension().replace_extension(".xml"), error))
    return "; VOC lists have names without extension";
  if (const size_t blank = name.find_first_of(" \t"); blank != std::string::npos) {
    if (fs::exists(file.parent_path() / (name.substr(0, blank) + ".xml"), error))
      return "; the list has a second column: is it that of one class?";
  }
  for (fs::directory_iterator entry(file.parent_path(), error), end; !error && entry != end; entry.increment(error)) {
    const std::string other = entry->path().filename().string();
    if (lower_case(other) == lower_case(file.filename().string()))
      return fmt::format("; there is '{}', in other capitals", escaped(other));
  }
  return "";
}

// The picture of an annotation: by the name in the split; where several files answer to that, the one that <filename>
// names; and by <filename> alone where none does.
void find_picture(Reading& reading, const fs::path& folder, const std::string& name, const std::string& file_name,
                  RawImage& image) {
  FindingLog& log = reading.log;
  const std::string& file = image.annotation_file;
  image.image_name = name;
  const std::vector<fs::path> candidates = reading.finder.of_stem(folder, name);
  if (!candidates.empty()) {
    image.path = reading.finder.find(folder, name).path;
    const fs::path named = fs::path(file_name).filename();
    const auto chosen = std::find_if(candidates.begin(), candidates.end(),
                                     [&](const fs::path& candidate) { return candidate.filename() == named; });
    if (chosen != candidates.end()) image.path = *chosen;
    if (candidates.size() > 1) {
      std::string all;
      for (const fs::path& candidate : candidates)
        all += fmt::format("{}{}", all.empty() ? "" : ", ", escaped(candidate.filename().string()));
      log.note({Kind::ambiguous_image, Action::none, file, "",
                fmt::format("several pictures answer to '{}' ({}): {} is used{}", image.id, all,
                            escaped(image.path.filename().string()),
                            chosen != candidates.end() ? ", which <filename> names" : ", for <filename> names none")});
    }
    const std::string stem = format_by_name(named) ? named.stem().string() : named.string();
    if (!stem.empty() && chosen == candidates.end() && stem != fs::path(name).filename().string()) {
      log.note({Kind::file_name_mismatch, Action::none, file, "",
                fmt::format("<filename> is '{}', but the split lists '{}': {} is used", escaped(file_name), image.id,
                            escaped(image.path.filename().string()))});
    }
    return;
  }
  if (file_name.empty()) return;
  image.path = reading.finder.find(folder, file_name).path;
  if (image.path.empty()) return;
  log.note({Kind::guessed_file_name, Action::fixed, file, "",
            fmt::format("no image '{}.*'; <filename> leads to {}", image.id, escaped(image.path.string()))});
}

}  // namespace

RawSplit read_voc(Reading& reading) {
  RawSplit result;
  FindingLog& log = reading.log;
  const Listing listing = list_split(reading.config, reading.split);
  const fs::path images = listing.images.empty() ? image_folder(reading.config, reading.split) : listing.images;
  const std::string policy = bad_image_policy(reading.config, reading.evaluation);
  note_passed_over(log, listing.file, listing.walk, is_xml);
  std::set<std::string> names;
  std::map<std::string, std::string> seen;  // by what a name comes to, for `./a` is `a`: how it was written first
  for (const auto& [name, where] : listing.entries) {
    if (const auto [first, fresh] = seen.emplace(fs::path(name).lexically_normal().string(), name); !fresh) {
      log.note(
          {Kind::duplicate_id, Action::image_dropped, listing.file.string(), where, listed_twice(first->second, name)});
      continue;
    }
    ++result.images_listed;
    RawImage image;
    image.id = escaped(name);  // goes into JSON and file names
    const fs::path file = listing.annotations / (name + ".xml");
    image.annotation_file = file.string();
    AnnotationReader reader(reading, image, names);
    std::error_code status;
    if (name.find('\0') != std::string::npos || !fs::exists(file, status)) {
      log.judge({Kind::missing_annotation, Action::image_dropped, listing.file.string(), where,
                 fmt::format("'{}' has no annotation {}{}", image.id, escaped(file.string()), why_missing(name, file))},
                "bad_image", policy);
      image.usable = false;
    } else {
      std::string text, place, why;
      try {
        text = read_file(file, kMaxXmlBytes);
      } catch (const std::runtime_error& error) {
        why = error.what();
      }
      image.usable = why.empty() && reader.read(text, place, why);
      if (!image.usable)
        log.judge({Kind::bad_annotation, Action::image_dropped, file.string(), place, why}, "bad_image", policy);
    }
    result.refused_boxes += reader.refused();
    if (image.usable) {
      find_picture(reading, images, name, reader.file_name(), image);
      if (image.path.empty() && !listing.images.empty())
        find_picture(reading, image_folder(reading.config, reading.split), name, reader.file_name(), image);
    }
    result.images.push_back(std::move(image));
  }
  result.classes.assign(names.begin(), names.end());
  return result;
}

}  // namespace gradlibra
