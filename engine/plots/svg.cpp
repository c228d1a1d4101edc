// SPDX-License-Identifier: MIT
#include "engine/plots/svg.h"

#include <fmt/format.h>

#include <array>

#include "runtime/base/utf8.h"

namespace gradlibra::svg {
namespace {

struct Palette {
  const char *ink, *muted, *grid, *paper;
  std::array<const char*, kColors> series;
};
// After Okabe and Ito's colours, which stay apart under each kind of colour blindness, darker on paper and lighter on a
// dark ground, so that each has a contrast of 4 to 1 or more with it.
constexpr Palette kLight{"#1b1b1b",
                         "#5c5c5c",
                         "#e1e1de",
                         "#ffffff",
                         {"#0b5fa5", "#c04e00", "#00795c", "#9a3f86", "#856000", "#2b7fb0", "#5b5f66"}};
constexpr Palette kDark{"#e9e7e2",
                        "#a9a7a1",
                        "#3a3b3d",
                        "#17181a",
                        {"#74b6ee", "#f59a52", "#4fc9a4", "#df97cd", "#d9b44a", "#a6d8f5", "#b4b8be"}};

std::string rules(const Palette& colors) {
  std::string css = fmt::format(
      ".plot text{{fill:{0}}}.plot .muted{{fill:{1}}}.plot .grid{{stroke:{2}}}.plot .axis{{stroke:{1}}}"
      ".plot .ref{{stroke:{1};fill:none}}.plot .paper{{fill:{3}}}.plot .hollow{{fill:{3}}}",
      colors.ink, colors.muted, colors.grid, colors.paper);
  for (size_t i = 0; i < colors.series.size(); ++i)
    css += fmt::format(".plot .l{0}{{stroke:{1}}}.plot .f{0}{{fill:{1}}}", i, colors.series[i]);
  return css;
}

size_t characters(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

}  // namespace

std::string escaped(std::string_view text, bool lines) {
  if (lines) {
    std::string result;
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      result += (begin > 0 ? "\n" : "") + escaped(text.substr(begin, end - begin));
      begin = end + 1;
    }
    return result;
  }
  std::string result;
  for (const char c : gradlibra::escaped(text)) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else if (c == '"')
      result += "&quot;";
    else
      result += c;
  }
  return result;
}

std::string styles() {
  return ".plot{font-family:system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,sans-serif;"
         "font-size:13px}.plot .small{font-size:11.5px}.plot path,.plot line{fill:none}.plot .curve{stroke-width:1.8;"
         "stroke-linejoin:round}.plot .thin{stroke-width:1}" +
         rules(kLight) + "@media screen and (prefers-color-scheme:dark){" + rules(kDark) + "}";
}

int color_of(int index) { return ((index % kColors) + kColors) % kColors; }

const char* dashes_of(int index) {
  constexpr const char* kDashes[] = {"none", "7 3", "2 3", "9 3 2 3"};
  return kDashes[index % 4];
}

double text_width(std::string_view text, double font_size) {
  return 0.56 * font_size * static_cast<double>(characters(text));
}

std::string shortened(const std::string& text, double width, double font_size) {
  if (text_width(text, font_size) <= width) return text;
  const auto most = static_cast<size_t>(std::max(1.0, width / (0.56 * font_size) - 1));
  size_t at = 0;
  for (size_t count = 0; at < text.size(); ++at) {
    if ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) continue;
    if (count++ == most) break;
  }
  return text.substr(0, at) + "\u2026";
}

std::string text(double x, double y, Anchor anchor, std::string_view content, std::string_view attributes) {
  constexpr const char* kAnchors[] = {"start", "middle", "end"};
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}{}>{}</text>\n", x, y,
                     kAnchors[static_cast<int>(anchor)], attributes.empty() ? "" : " ", attributes, escaped(content));
}

std::string line(double x1, double y1, double x2, double y2, std::string_view attributes) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1, y1, x2, y2,
                     attributes);
}

std::string marker(int index, double x, double y, std::string_view attributes) {
  const char* shape = "a4.2 4.2 0 1 0 8.4 0a4.2 4.2 0 1 0 -8.4 0z";
  double left = 4.2, up = 0;
  if (index % 4 == 1) shape = "h7.6v7.6h-7.6z", left = up = 3.8;
  if (index % 4 == 2) shape = "l5 8.6h-10z", left = 0, up = 5;
  if (index % 4 == 3) shape = "l5 5l-5 5l-5 -5z", left = 0, up = 5;
  return fmt::format("<path d=\"M{:.1f} {:.1f}{}\" {}/>\n", x - left, y - up, shape, attributes);
}

std::string number(double value) { return fmt::format("{:.6g}", value); }

}  // namespace gradlibra::svg
