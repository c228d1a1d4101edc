// SPDX-License-Identifier: MIT
// What figures are drawn with: text that is safe in XML, colours and dashes by number, lines and words.
#pragma once

#include <string>
#include <string_view>

namespace gradlibra::svg {

// Text as content or attribute value of XML or HTML: & < > " are entities, bytes that are no UTF-8 and control
// characters are spelled out (runtime/base/utf8.h). With `lines` line breaks stay.
[[nodiscard]] std::string escaped(std::string_view text, bool lines = false);

// Rules for class "plot" and what is in it, in light and in dark; paper is always light. Series have the classes l0,
// l1, .. (lines) and f0, f1, .. (areas).
[[nodiscard]] std::string styles();
inline constexpr int kColors = 7;
[[nodiscard]] int color_of(int index);  // the place in the palette
// Solid, dashed, dotted: what colours alone do not tell apart.
[[nodiscard]] const char* dashes_of(int index);

inline constexpr double kFontSize = 13;
// About as wide as a sans-serif font sets it.
[[nodiscard]] double text_width(std::string_view text, double font_size = kFontSize);
// Cut to a width, an ellipsis at its end.
[[nodiscard]] std::string shortened(const std::string& text, double width, double font_size = kFontSize);

enum class Anchor { start, middle, end };
[[nodiscard]] std::string text(double x, double y, Anchor anchor, std::string_view content,
                               std::string_view attributes = {});
[[nodiscard]] std::string line(double x1, double y1, double x2, double y2, std::string_view attributes);

// A point's mark, in a shape by `index`: disc, square, triangle, diamond, 10 pixels wide.
[[nodiscard]] std::string marker(int index, double x, double y, std::string_view attributes);

// "0.001", "1e-05", "20000": the number of an axis.
[[nodiscard]] std::string number(double value);

}  // namespace gradlibra::svg
