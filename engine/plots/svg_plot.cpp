// SPDX-License-Identifier: MIT
#include "engine/plots/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "engine/plots/svg.h"

namespace gradlibra {
namespace {

using svg::Anchor;

constexpr double kNameDegrees = 35, kLabelStep = 14, kSample = 20;

struct Box {
  double left, right, top, bottom;  // pixels; bottom > top
};

std::string opening(const Axes& axes, double width, double height) {
  if (!axes.id.empty()) {
    const std::string id = svg::escaped(axes.id);
    return fmt::format(
        "<svg class=\"plot\" viewBox=\"0 0 {0:g} {1:g}\" role=\"img\" aria-labelledby=\"{2}-t{3}\">"
        "<title id=\"{2}-t\">{4}</title>{5}\n",
        width, height, id, axes.description.empty() ? "" : " " + id + "-d", svg::escaped(axes.title),
        axes.description.empty() ? "" : fmt::format("<desc id=\"{}-d\">{}</desc>", id, svg::escaped(axes.description)));
  }
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" viewBox=\"0 0 {0:g} {1:g}\" width=\"{0:g}\" "
      "height=\"{1:g}\" role=\"img\"><title>{2}</title>{3}\n<style>{4}</style>\n"
      "<rect width=\"100%\" height=\"100%\" class=\"paper\"/>\n{5}",
      width, height, svg::escaped(axes.title),
      axes.description.empty() ? "" : "<desc>" + svg::escaped(axes.description) + "</desc>", svg::styles(),
      svg::text(12, 22, Anchor::start, axes.title, "font-size=\"15\""));
}

double top_of(const Axes& axes) { return axes.id.empty() ? 40 : 12; }

// How far names that stand aslant under an axis reach down.
double names_height(const std::vector<std::string>& names) {
  double longest = 0;
  for (const std::string& name : names) longest = std::max(longest, svg::text_width(svg::shortened(name, 110)));
  return names.empty() ? 0 : 10 + 0.6 * longest;
}

std::vector<Series> with_colors(std::vector<Series> series) {
  int place = 0;
  for (Series& s : series) {
    if (s.reference) continue;
    if (s.color < 0) s.color = place;
    ++place;
  }
  return series;
}

// Places of labels along an axis: each as near to where it belongs as the others let it.
std::vector<double> spread_apart(const std::vector<double>& wanted, double step, double low, double high) {
  std::vector<size_t> order(wanted.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return wanted[a] < wanted[b]; });
  std::vector<double> place = wanted;
  double free = low;
  for (const size_t i : order) {
    place[i] = std::max(wanted[i], free);
    free = place[i] + step;
  }
  double most = high;
  for (auto i = order.rbegin(); i != order.rend(); ++i) {
    place[*i] = std::min(place[*i], most);
    most = place[*i] - step;
  }
  return place;
}

struct Style {
  std::string stroke, fill;
};
Style style_of(const Series& s, int place) {
  if (s.reference) return {"class=\"ref thin\" stroke-dasharray=\"4 4\"", "class=\"muted\""};
  const int color = svg::color_of(s.color);
  return {fmt::format("class=\"curve l{}\" stroke-dasharray=\"{}\"", color, svg::dashes_of(place)),
          fmt::format("class=\"f{}\"", color)};
}

std::string curve(const Series& s, int place, const Scale& x, const Scale& y) {
  const Style style = style_of(s, place);
  const size_t points = std::min(s.x.size(), s.y.size());
  std::string path, marks;
  bool pen = false;
  for (size_t k = 0; k < points; ++k) {
    const bool shown = y.shows(s.y[k]) && x.shows(s.x[k]);
    if (shown) path += fmt::format("{}{:.1f} {:.1f}", pen ? "L" : "M", x(s.x[k]), y(s.y[k]));
    if (shown && k < s.spread.size() && s.spread[k] > 0) {
      const double high = s.y[k] + s.spread[k], low = s.y[k] - s.spread[k], at = x(s.x[k]);
      const double bottom = y.shows(low) ? y.within(low) : y.base();
      marks += fmt::format(
          "<path d=\"M{0:.1f} {1:.1f}V{2:.1f}M{3:.1f} {1:.1f}h6M{3:.1f} {2:.1f}h6\" class=\"thin l{4}\"/>\n", at,
          y.within(high), bottom, at - 3, svg::color_of(s.color));
    }
    if (shown && s.markers) marks += svg::marker(svg::color_of(s.color), x(s.x[k]), y(s.y[k]), style.fill);
    if (shown && static_cast<int>(k) == s.mark)
      marks += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" class=\"hollow curve l{}\"/>\n", x(s.x[k]),
                           y(s.y[k]), svg::color_of(s.color));
    pen = shown;
  }
  if (path.empty()) return "";
  return (s.line ? fmt::format("<path d=\"{}\" {}/>\n", path, style.stroke) : "") + marks;
}

// Where the last point of a curve that is shown lies; the middle of the axis if there is none.
double end_of(const Series& s, const Scale& y, const Box& box) {
  for (size_t k = std::min(s.x.size(), s.y.size()); k-- > 0;)
    if (y.shows(s.y[k])) return y(s.y[k]);
  return (box.top + box.bottom) / 2;
}

std::string names_at_ends(const std::vector<Series>& series, const Scale& y, const Box& box, double room) {
  std::vector<double> wanted;
  for (const Series& s : series)
    if (!s.reference || !s.name.empty()) wanted.push_back(end_of(s, y, box));
  const std::vector<double> places = spread_apart(wanted, kLabelStep, box.top + 4, box.bottom);
  std::string text;
  size_t at = 0;
  int place = 0;
  for (const Series& s : series) {
    const int mine = s.reference ? 0 : place++;
    if (s.reference && s.name.empty()) continue;
    const double row = places[at++], left = box.right + 6;
    const Style style = style_of(s, mine);
    if (s.line || s.reference)
      text += fmt::format("<path d=\"M{:.1f} {:.1f}h{:g}\" {}/>\n", left, row, kSample, style.stroke);
    if (s.markers) text += svg::marker(svg::color_of(s.color), left + kSample / 2, row, style.fill);
    text += svg::text(left + kSample + 5, row + 4, Anchor::start, svg::shortened(s.name, room, 12), "font-size=\"12\"");
  }
  return text;
}

std::string y_axis(const Axes& axes, const Scale& y, const Box& box) {
  std::string text;
  for (const double tick : y.ticks(box.bottom - box.top > 150 ? 5 : 2)) {
    text += svg::line(box.left, y(tick), box.right, y(tick), "class=\"grid thin\"");
    text += svg::text(box.left - 6, y(tick) + 4, Anchor::end, svg::number(tick), "class=\"muted small\"");
  }
  if (!axes.y_label.empty())
    text += svg::text(0, 0, Anchor::middle, axes.y_label,
                      fmt::format("transform=\"translate(14 {:.1f}) rotate(-90)\"", (box.top + box.bottom) / 2));
  return text;
}

std::string x_axis(const Axes& axes, const Scale& x, const Box& box, double label_y) {
  std::string text = svg::line(box.left, box.bottom, box.right, box.bottom, "class=\"axis thin\"");
  for (size_t i = 0; i < axes.x_names.size(); ++i)
    text += svg::text(0, 0, Anchor::end, svg::shortened(axes.x_names[i], 110),
                      fmt::format("transform=\"translate({:.1f} {:.1f}) rotate(-{})\"", x(static_cast<double>(i)) + 4,
                                  box.bottom + 16, kNameDegrees));
  if (axes.x_names.empty())
    for (const double tick : x.ticks(box.right - box.left > 200 ? 5 : 2)) {
      text += svg::line(x(tick), box.bottom, x(tick), box.bottom + 4, "class=\"axis thin\"");
      text += svg::text(x(tick), box.bottom + 17, Anchor::middle, svg::number(tick), "class=\"muted small\"");
    }
  if (!axes.x_label.empty()) text += svg::text((box.left + box.right) / 2, label_y, Anchor::middle, axes.x_label);
  return text;
}

Interval x_interval(const Axes& axes, const std::vector<Series>& series) {
  if (axes.x_range) return *axes.x_range;
  if (!axes.x_names.empty()) return {-0.5, static_cast<double>(axes.x_names.size()) - 0.5};
  ValueRange range;
  for (const Series& s : series)
    for (const double value : s.x) range.add(value, false);
  return range.around({0, 1});
}

Interval y_interval(const Axes& axes, const std::vector<Series>& series) {
  if (axes.y_range) return *axes.y_range;
  ValueRange range;
  for (const Series& s : series)
    for (size_t k = 0; k < s.y.size(); ++k) {
      const double spread = k < s.spread.size() ? s.spread[k] : 0;
      for (const double value : {s.y[k], s.y[k] - spread, s.y[k] + spread}) range.add(value, axes.log_y);
    }
  Interval y = range.around({0.1, 1});
  if (axes.log_y) return y;
  if (y.low > 0 && y.low < y.high / 3) y.low = 0;
  return y;
}

}  // namespace

std::string svg_curves(const Axes& axes, const std::vector<Series>& series) {
  const std::vector<Series> colored = with_colors(series);
  double longest = 0, named = 0;
  for (const Series& s : colored) {
    if (s.name.empty()) continue;
    longest = std::max(longest, svg::text_width(s.name, 12));
    ++named;
  }
  const double room = std::min(longest, 0.3 * axes.width);
  const double below = 22 + names_height(axes.x_names) + (axes.x_label.empty() ? 0 : 20);
  Box box{axes.y_label.empty() ? (axes.width < 300 ? 30.0 : 48.0) : 66.0,
          axes.width - (named > 1 ? room + kSample + 14 : 14.0), top_of(axes), 0};
  // High enough for all the names at the curves' ends.
  const double height = std::max(axes.height, box.top + below + (named > 1 ? named * kLabelStep : 0));
  box.bottom = height - below;
  const Scale x(x_interval(axes, colored), box.left, box.right, false),
      y(y_interval(axes, colored), box.bottom, box.top, axes.log_y);
  std::string text = opening(axes, axes.width, height) + y_axis(axes, y, box) + x_axis(axes, x, box, height - 8);
  int place = 0;
  for (const Series& s : colored) text += curve(s, s.reference ? 0 : place++, x, y);
  if (named > 1) text += names_at_ends(colored, y, box, room);
  return text + "</svg>\n";
}

std::string svg_bars(const Axes& axes, const std::vector<Bar>& bars) {
  constexpr double kRow = 21;
  double longest = 0;
  ValueRange range;
  for (const Bar& bar : bars) {
    longest = std::max(longest, svg::text_width(bar.name));
    if (bar.value) range.add(*bar.value, axes.log_y);
  }
  const double room = std::min(longest, 0.36 * axes.width), below = 26 + (axes.x_label.empty() ? 0 : 20);
  const Box box{room + 14, axes.width - 56, top_of(axes), top_of(axes) + kRow * static_cast<double>(bars.size())};
  Interval interval = range.around({0.1, 1});
  if (!axes.log_y) interval = {std::min(0.0, interval.low), std::max(0.0, interval.high)};
  const Scale x(axes.x_range.value_or(interval), box.left, box.right, axes.log_y);
  std::string text = opening(axes, axes.width, box.bottom + below);
  for (const double tick : x.ticks(4)) {
    text += svg::line(x(tick), box.top, x(tick), box.bottom, "class=\"grid thin\"");
    text += svg::text(x(tick), box.bottom + 16, Anchor::middle, svg::number(tick), "class=\"muted small\"");
  }
  for (size_t i = 0; i < bars.size(); ++i) {
    const Bar& bar = bars[i];
    const double row = box.top + kRow * (static_cast<double>(i) + 0.5);
    text += svg::text(room + 6, row + 4.5, Anchor::end, svg::shortened(bar.name, room));
    if (!bar.value || !x.shows(*bar.value)) {
      text += svg::text(box.left + 6, row + 4.5, Anchor::start, bar.value ? svg::number(*bar.value) : "-",
                        "class=\"muted small\"");
      continue;
    }
    const double end = x(*bar.value), start = axes.log_y ? box.left : x(0);
    const std::string fill = fmt::format("class=\"f{}\"", svg::color_of(bar.color));
    if (axes.log_y)
      text += svg::line(start, row, end, row, fmt::format("class=\"thin l{}\"", svg::color_of(bar.color))) +
              svg::marker(bar.color, end, row, fill);
    else
      text += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:g}\" {}/>\n",
                          std::min(start, end), row - 6.5, std::abs(end - start), 13.0, fill);
    text += svg::text(std::max(start, end) + 8, row + 4.5, Anchor::start, fmt::format("{:.3g}", *bar.value),
                      "class=\"small\"");
  }
  text += svg::line(box.left, box.top, box.left, box.bottom, "class=\"axis thin\"");
  if (!axes.x_label.empty())
    text += svg::text((box.left + box.right) / 2, box.bottom + below - 8, Anchor::middle, axes.x_label);
  return text + "</svg>\n";
}

std::string svg_panels(const std::string& title, const std::vector<std::string>& figures, double width, double height) {
  constexpr double kHead = 30;
  const double all = width * static_cast<double>(figures.size());
  std::string text = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" viewBox=\"0 0 {0:g} {1:g}\" width=\"{0:g}\" "
      "height=\"{1:g}\">\n<title>{2}</title>\n<style>{3}</style>\n<rect width=\"100%\" height=\"100%\" "
      "class=\"paper\"/>\n{4}",
      all, height + kHead, svg::escaped(title), svg::styles(),
      svg::text(12, 22, Anchor::start, title, "font-size=\"16\" font-weight=\"600\""));
  for (size_t i = 0; i < figures.size(); ++i)
    text += fmt::format("<svg x=\"{:g}\" y=\"{:g}\" width=\"{:g}\" height=\"{:g}\">\n{}</svg>\n",
                        width * static_cast<double>(i), kHead, width, height, figures[i]);
  return text + "</svg>\n";
}

}  // namespace gradlibra
