// SPDX-License-Identifier: MIT
#include "engine/report/gallery.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "data/images/image.h"
#include "data/images/label_layout.h"
#include "engine/report/html.h"

namespace gradlibra {
namespace {

constexpr int kMostSide = 448;  // pixels of an embedded picture
constexpr int kQuality = 82;

// Classes of the stylesheet and patterns of dashes: right, other class, nothing there, truth.
enum class Kind { right, other, nothing, truth };
constexpr const char* kClasses[] = {"right", "other", "false", "truth"};
constexpr const char* kDashes[] = {"none", "9 3", "2 2.5", "5 4"};

std::string outline(Kind kind, const std::string& shape, double width) {
  const auto k = static_cast<size_t>(kind);
  return fmt::format(
      "<{0} class=\"{1}\" stroke-width=\"{2:.1f}\"/><{0} class=\"{3}\" stroke-width=\"{4:.1f}\" "
      "stroke-dasharray=\"{5}\"/>\n",
      shape, kind == Kind::truth ? "dark" : "halo", width + 1.6, kClasses[k], width, kDashes[k]);
}

std::string count_text(int64_t count, const char* what) { return fmt::format("{} {}", count, what); }

std::string caption(const Judgement& judged) {
  std::vector<std::string> parts{count_text(judged.right, "right")};
  if (judged.other > 0) parts.push_back(count_text(judged.other, "taken for another class"));
  if (judged.nothing > 0) parts.push_back(count_text(judged.nothing, "too many"));
  if (judged.missed > 0) parts.push_back(count_text(judged.missed, "missed"));
  return fmt::format("{}", fmt::join(parts, ", "));
}

struct Numbered {
  Box box;
  Kind kind;
  std::string html;  // what it is, as markup
};

// Everything that has a number in the picture, in the order of the list below it: detections by score, missed truths.
std::vector<Numbered> numbered(const Dataset& dataset, const std::vector<Object>& objects,
                               const std::vector<Detection>& detections, const ImagePairs& pairs,
                               const ConfusionOptions& options) {
  const auto name = [&](int label) { return "<b>" + html::text(dataset.classes[static_cast<size_t>(label)]) + "</b>"; };
  std::vector<size_t> order;
  for (size_t d = 0; d < detections.size(); ++d)
    if (pairs.truth_of[d] != ImagePairs::kNotCounted) order.push_back(d);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return detections[a].score > detections[b].score; });
  std::vector<Numbered> all;
  for (const size_t d : order) {
    const Detection& found = detections[d];
    const int truth = pairs.truth_of[d];
    Numbered& one = all.emplace_back(Numbered{found.box, Kind::nothing, ""});
    one.html = fmt::format("{} {:.2f}: ", name(found.label), found.score);
    if (truth < 0) {
      const bool again = pair_objects(objects, {found}, options).truth_of[0] >= 0;
      one.html += again ? "found already" : "nothing is there";
    } else if (const int label = objects[static_cast<size_t>(truth)].label; label == found.label) {
      one.kind = Kind::right;
      one.html += "right";
    } else {
      one.kind = Kind::other;
      one.html += "is " + name(label);
    }
  }
  for (size_t t = 0; t < objects.size(); ++t)
    if (pairs.detection_of[t] == ImagePairs::kNone)
      all.push_back({objects[t].box, Kind::truth, name(objects[t].label) + ": missed"});
  return all;
}

std::string rectangle(const Box& box, double scale_x, double scale_y) {
  return fmt::format("rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"", box.x1 * scale_x,
                     box.y1 * scale_y, std::max(0.0, (box.x2 - box.x1) * scale_x),
                     std::max(0.0, (box.y2 - box.y1) * scale_y));
}

std::string numbers_on(const std::vector<Numbered>& all, int width, int height, double scale_x, double scale_y,
                       double font) {
  std::vector<PixelRect> boxes, sizes;
  const auto pixel = [](double value, int most) {
    return static_cast<int>(std::lround(std::clamp(value, 0.0, static_cast<double>(most))));
  };
  for (size_t i = 0; i < all.size(); ++i) {
    const Box& b = all[i].box;
    boxes.push_back({pixel(b.x1 * scale_x, width), pixel(b.y1 * scale_y, height), pixel(b.x2 * scale_x, width),
                     pixel(b.y2 * scale_y, height)});
    const auto digits = static_cast<double>(std::to_string(i + 1).size());
    sizes.push_back({0, 0, static_cast<int>(std::ceil(0.62 * font * digits)) + 2, static_cast<int>(std::ceil(font))});
  }
  const std::vector<PixelRect> places = place_labels(width, height, boxes, sizes);
  std::string svg;
  for (size_t i = 0; i < all.size(); ++i)
    svg += fmt::format("<text x=\"{}\" y=\"{:.1f}\" font-size=\"{:.1f}\" stroke-width=\"{:.1f}\">{}</text>\n",
                       places[i].x1 + 1, places[i].y2 - 0.14 * font, font, font / 4, i + 1);
  return svg;
}

}  // namespace

double Judgement::quality() const {
  const int64_t all = right + errors();
  return all == 0 ? 1 : static_cast<double>(right) / static_cast<double>(all);
}

Judgement judge(size_t image, const std::vector<Object>& objects, const std::vector<Detection>& detections,
                const ConfusionOptions& options) {
  const ImagePairs pairs = pair_objects(objects, detections, options);
  Judgement judged{.image = image};
  for (size_t d = 0; d < detections.size(); ++d) {
    const int truth = pairs.truth_of[d];
    if (truth >= 0) {
      const bool same = objects[static_cast<size_t>(truth)].label == detections[d].label;
      ++(same ? judged.right : judged.other);
    }
    judged.nothing += truth == ImagePairs::kNone;
  }
  judged.missed = std::count(pairs.detection_of.begin(), pairs.detection_of.end(), ImagePairs::kNone);
  return judged;
}

Choice choose_pictures(const Dataset& dataset, const Detections& detections, const ConfusionOptions& options,
                       size_t count) {
  std::vector<Judgement> all;
  for (size_t i = 0; i < dataset.images.size(); ++i)
    all.push_back(judge(i, dataset.images[i].objects, detections[i], options));
  Choice choice;
  std::stable_sort(all.begin(), all.end(), [](const Judgement& a, const Judgement& b) {
    return a.quality() != b.quality() ? a.quality() > b.quality() : a.right > b.right;
  });
  // Where there are few pictures, half of them at most.
  const size_t most = std::min(count, (all.size() + 1) / 2);
  for (const Judgement& one : all)
    if (choice.best.size() < most && one.right > 0) choice.best.push_back(one.image);
  std::stable_sort(all.begin(), all.end(), [](const Judgement& a, const Judgement& b) {
    return a.quality() != b.quality() ? a.quality() < b.quality() : a.errors() > b.errors();
  });
  for (const Judgement& one : all)
    if (choice.worst.size() < count && one.errors() > 0 &&
        std::find(choice.best.begin(), choice.best.end(), one.image) == choice.best.end())
      choice.worst.push_back(one.image);
  return choice;
}

std::string picture_figure(const Dataset& dataset, size_t image, const std::vector<Detection>& detections,
                           const ConfusionOptions& options, bool apply_exif, const std::string& id) {
  const ImageRecord& record = dataset.images[image];
  const Image whole = read_image(record.path, apply_exif);
  const double shrink = std::min(1.0, static_cast<double>(kMostSide) / std::max(whole.width, whole.height));
  const int width = std::max(1, static_cast<int>(std::lround(whole.width * shrink)));
  const int height = std::max(1, static_cast<int>(std::lround(whole.height * shrink)));
  const Image small = width == whole.width && height == whole.height ? whole : resize(whole, width, height);
  const double scale_x = static_cast<double>(width) / whole.width, scale_y = static_cast<double>(height) / whole.height;
  // Lines and numbers are as large on the page whatever the picture's size is.
  const double unit = std::max(width, height) / 300.0, font = 14 * unit;

  const ImagePairs pairs = pair_objects(record.objects, detections, options);
  const std::vector<Numbered> all = numbered(dataset, record.objects, detections, pairs, options);
  const Judgement judged = judge(image, record.objects, detections, options);
  const std::string told = caption(judged);
  std::string svg = fmt::format(
      "<svg viewBox=\"0 0 {0} {1}\" role=\"img\" aria-labelledby=\"{2}-t {2}-d\">\n<title id=\"{2}-t\">{3}</title>"
      "<desc id=\"{2}-d\">{4}</desc>\n<image width=\"{0}\" height=\"{1}\" href=\"data:image/jpeg;base64,{5}\"/>\n",
      width, height, id, html::text(record.id), told, html::base64(encode_jpeg(small, kQuality)));
  for (size_t t = 0; t < record.objects.size(); ++t)
    if (pairs.detection_of[t] >= 0)
      svg += outline(Kind::truth, rectangle(record.objects[t].box, scale_x, scale_y), 0.9 * unit);
  for (auto one = all.rbegin(); one != all.rend(); ++one)  // the surest on top
    svg += outline(one->kind, rectangle(one->box, scale_x, scale_y), 1.9 * unit);
  svg += numbers_on(all, width, height, scale_x, scale_y, font) + "</svg>\n";

  std::string list = "<ol class=\"boxes\">\n";
  for (const Numbered& one : all) list += "<li>" + one.html + "</li>\n";
  list += "</ol>\n";
  return "<figure class=\"picture\">\n" + svg + "<figcaption><b>" + html::text(record.id) + "</b>: " + told + "\n" +
         (all.empty() ? "" : html::details("Boxes", list)) + "</figcaption>\n</figure>\n";
}

std::string picture_legend() {
  const std::pair<Kind, const char*> kinds[] = {{Kind::right, "found, right class"},
                                                {Kind::other, "found, another class"},
                                                {Kind::nothing, "nothing there, or found already"},
                                                {Kind::truth, "truth; numbered where it was missed"}};
  std::string html = "<ul class=\"legend\">\n";
  for (const auto& [kind, what] : kinds)
    html += "<li class=\"picture\"><svg viewBox=\"0 0 40 21\" aria-hidden=\"true\">" +
            outline(kind, "rect x=\"5\" y=\"4\" width=\"30\" height=\"13\"", 2) + "</svg>" + html::text(what) +
            "</li>\n";
  return html + "</ul>\n";
}

}  // namespace gradlibra
