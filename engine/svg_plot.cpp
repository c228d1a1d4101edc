// SPDX-License-Identifier: MIT
#include "engine/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "data/images/image.h"

namespace gradlibra {

namespace {

constexpr double kWidth = 860, kHeight = 460, kLeft = 70, kRight = 200, kTop = 40, kBottom = 60;
constexpr double kPlotWidth = kWidth - kLeft - kRight, kPlotHeight = kHeight - kTop - kBottom;

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '"')
      result += "&quot;";
    else if (static_cast<unsigned char>(c) >= 0x20)
      result += c;
  }
  return result;
}

std::string color_of(size_t index) {
  const Color c = class_color(static_cast<int>(index));
  return fmt::format("#{:02x}{:02x}{:02x}", c.r, c.g, c.b);
}

// Solid, dashed, dotted: what colours alone do not tell apart.
const char* dashes_of(size_t index) {
  constexpr const char* kDashes[] = {"none", "7 3", "2 3", "9 3 2 3"};
  return kDashes[index % 4];
}

// Values to pixels, and where the axis is marked.
class Scale {
 public:
  Scale(double low, double high, double from, double to, bool log)
      : log_(log), from_(from), to_(to), low_(at(low)), high_(at(high)) {
    if (!(high_ > low_)) high_ = low_ + 1;
    if (log_) low_ = std::floor(low_), high_ = std::ceil(high_);
  }
  [[nodiscard]] bool shows(double value) const { return std::isfinite(value) && (!log_ || value > 0); }
  [[nodiscard]] double operator()(double value) const {
    return from_ + (at(value) - low_) / (high_ - low_) * (to_ - from_);
  }
  [[nodiscard]] double base() const { return from_; }
  [[nodiscard]] std::vector<double> ticks() const {
    std::vector<double> result;
    if (log_) {
      const double step = std::max(1.0, std::ceil((high_ - low_) / 8));
      for (double decade = low_; decade <= high_; decade += step) result.push_back(std::pow(10, decade));
      return result;
    }
    const double rough = (high_ - low_) / 6, magnitude = std::pow(10, std::floor(std::log10(rough)));
    double step = magnitude;
    for (const double factor : {2.0, 5.0, 10.0})
      if (step < rough) step = factor * magnitude;
    for (double k = std::ceil(low_ / step); k * step <= high_ * (1 + 1e-9); ++k) result.push_back(k * step);
    return result;
  }

 private:
  [[nodiscard]] double at(double value) const { return log_ ? std::log10(value) : value; }
  bool log_;
  double from_, to_, low_, high_;
};

std::string text(double x, double y, const char* anchor, const std::string& content, const std::string& more = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, more,
                     escaped(content));
}

std::string line(double x1, double y1, double x2, double y2, const char* color) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1, y1, x2, y2,
                     color);
}

std::string frame(const Axes& axes, const Scale& y) {
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      kWidth, kHeight);
  svg += text(kLeft, 22, "start", axes.title, " font-size=\"15\"");
  for (const double tick : y.ticks()) {
    svg += line(kLeft, y(tick), kLeft + kPlotWidth, y(tick), "#dddddd");
    svg += text(kLeft - 6, y(tick) + 4, "end", fmt::format("{:.6g}", tick));
  }
  svg += line(kLeft, kTop, kLeft, kTop + kPlotHeight, "black");
  svg += line(kLeft, kTop + kPlotHeight, kLeft + kPlotWidth, kTop + kPlotHeight, "black");
  svg += text(kLeft + kPlotWidth / 2, kHeight - 12, "middle", axes.x_label);
  svg += text(0, 0, "middle", axes.y_label,
              fmt::format(" transform=\"translate(16 {:.1f}) rotate(-90)\"", kTop + kPlotHeight / 2));
  return svg;
}

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void add(const std::vector<double>& values, bool positive) {
    for (const double v : values)
      if (std::isfinite(v) && (!positive || v > 0)) low = std::min(low, v), high = std::max(high, v);
  }
  void settle(double otherwise_low, double otherwise_high) {
    if (low > high) low = otherwise_low, high = otherwise_high;
  }
};

}  // namespace

std::string svg_curves(const Axes& axes, const std::vector<Series>& series) {
  Range xs, ys;
  for (const Series& s : series) {
    xs.add(s.x, false);
    ys.add(s.y, axes.log_y);
  }
  xs.settle(0, 1);
  ys.settle(0.1, 1);
  if (!axes.log_y && ys.low > 0 && ys.low < ys.high / 3) ys.low = 0;
  const Scale x(xs.low, xs.high, kLeft, kLeft + kPlotWidth, false),
      y(ys.low, ys.high, kTop + kPlotHeight, kTop, axes.log_y);
  std::string svg = frame(axes, y);
  for (const double tick : x.ticks())
    svg += text(x(tick), kTop + kPlotHeight + 18, "middle", fmt::format("{:.6g}", tick));
  for (size_t i = 0; i < series.size(); ++i) {
    const Series& s = series[i];
    std::string path;
    bool pen = false;
    for (size_t k = 0; k < std::min(s.x.size(), s.y.size()); ++k) {
      const bool shown = y.shows(s.y[k]);
      if (shown) path += fmt::format("{}{:.1f} {:.1f}", pen ? "L" : "M", x(s.x[k]), y(s.y[k]));
      pen = shown;
    }
    const double row = kTop + 14 + 18 * static_cast<double>(i), left = kLeft + kPlotWidth + 14;
    const std::string style = fmt::format("fill=\"none\" stroke=\"{}\" stroke-width=\"2\" stroke-dasharray=\"{}\"",
                                          color_of(i), dashes_of(i));
    svg += fmt::format("<path d=\"{}\" {}/>\n", path, style);
    svg += fmt::format("<path d=\"M{:.1f} {:.1f}h26\" {}/>\n", left, row, style);
    svg += text(left + 32, row + 4, "start", s.name);
  }
  return svg + "</svg>\n";
}

std::string svg_bars(const Axes& axes, const std::vector<std::string>& names, const std::vector<double>& values) {
  Range ys;
  ys.add(values, axes.log_y);
  ys.settle(0.1, 1);
  if (!axes.log_y) ys.low = std::min(0.0, ys.low);
  const Scale y(ys.low, ys.high, kTop + kPlotHeight, kTop, axes.log_y);
  std::string svg = frame(axes, y);
  const double slot = kPlotWidth / static_cast<double>(std::max<size_t>(1, names.size()));
  for (size_t i = 0; i < names.size(); ++i) {
    const double left = kLeft + slot * static_cast<double>(i);
    const double top = y.shows(values[i]) ? y(values[i]) : y.base();
    svg += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n",
                       left + slot * 0.15, top, slot * 0.7, std::max(0.0, y.base() - top), color_of(i));
    svg += text(left + slot / 2, top - 4, "middle", fmt::format("{:.3g}", values[i]), " font-size=\"11\"");
    svg += text(0, 0, "end", names[i],
                fmt::format(" transform=\"translate({:.1f} {:.1f}) rotate(-25)\"", left + slot / 2 + 4,
                            kTop + kPlotHeight + 14));
  }
  return svg + "</svg>\n";
}

}  // namespace gradlibra
