// SPDX-License-Identifier: MIT
// Curves, bars and panels as SVG. Each says in a title and a description what it shows.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/plots/scale.h"

namespace gradlibra {

// A curve through its points; where a value is not finite, or not positive on a logarithmic axis, it is broken.
struct Series {
  std::string name = {};
  std::vector<double> x = {}, y = {};
  std::vector<double> spread = {};    // half the height of a bar of error at each point; empty: none
  int color = -1;                     // a place in the palette; negative: by its place among the series
  bool line = true, markers = false;  // markers: each point in a shape that goes with the colour
  bool reference = false;  // thin and grey, without a place among the colours: a diagonal, a level to compare with
  int mark = -1;           // the point with a ring around it
};

struct Axes {
  std::string title = {}, x_label = {}, y_label = {};
  bool log_y = false;                                  // of bars: their values
  std::optional<Interval> x_range = {}, y_range = {};  // not given: what the values need
  std::vector<std::string> x_names = {};               // in place of numbers, at x = 0, 1, ..
  double width = 460, height = 300;
  std::string description = {};  // what a reader who cannot see it should know
  // In a page of HTML, which has the title beside it and svg::styles() among its own: ids begin with this. Empty: a
  // file of its own.
  std::string id = {};
};

// Each in a colour and a pattern of dashes of its own; two or more are named at their ends.
[[nodiscard]] std::string svg_curves(const Axes& axes, const std::vector<Series>& series);

struct Bar {
  std::string name;
  std::optional<double> value;
  int color = 0;
};
// A row for each, from 0, its value behind it; on a logarithmic axis a dot. The axis is that of x: x_label, x_range.
[[nodiscard]] std::string svg_bars(const Axes& axes, const std::vector<Bar>& bars);

// Figures for a file, side by side under a title. Each is (a), (b), .. by its own title.
[[nodiscard]] std::string svg_panels(const std::string& title, const std::vector<std::string>& figures, double width,
                                     double height);

}  // namespace gradlibra
