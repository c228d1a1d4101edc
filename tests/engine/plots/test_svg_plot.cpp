// SPDX-License-Identifier: MIT
#include "engine/plots/svg_plot.h"

#include <gtest/gtest.h>

#include <limits>
#include <pugixml.hpp>

#include "engine/plots/svg.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

void expect_well_formed(const std::string& svg) {
  pugi::xml_document document;
  const pugi::xml_parse_result parsed = document.load_string(svg.c_str());
  EXPECT_TRUE(parsed) << parsed.description() << " at " << svg.substr(static_cast<size_t>(parsed.offset), 80);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(Scales, RoundValuesAtTheAxis) {
  const Scale plain({0, 0.93}, 0, 100, false);
  EXPECT_EQ(plain.ticks(5).size(), 5U);  // 0, 0.2 .. 0.8
  EXPECT_DOUBLE_EQ(plain(0.93), 100);
  EXPECT_DOUBLE_EQ(plain.within(2), 100);
  // Widened to 1, 2 or 5 of a decade, not to whole decades.
  const Scale log({0.3, 0.9}, 0, 100, true);
  const std::vector<double> ticks = log.ticks(5);
  ASSERT_EQ(ticks.size(), 3U);
  EXPECT_DOUBLE_EQ(ticks[0], 0.2);
  EXPECT_DOUBLE_EQ(ticks[1], 0.5);
  EXPECT_DOUBLE_EQ(ticks[2], 1);
  EXPECT_FALSE(log.shows(0));
  EXPECT_TRUE(plain.shows(0));
  EXPECT_GT(Scale({1e-7, 1e4}, 0, 100, true).ticks(5).size(), 3U);
  EXPECT_LE(Scale({1e-7, 1e4}, 0, 100, true).ticks(5).size(), 6U);
  EXPECT_EQ(Scale({-1, 1}, 0, 1, false).ticks(4)[2], 0) << "no -0 and no 1e-17";
  EXPECT_FALSE(Scale({3, 3}, 0, 100, false).ticks(5).empty());  // a single value
}

// Points are where the axes say: 0 to 10 over the plot's width, the highest value at its top.
TEST(Curves, LieOnTheirAxes) {
  const std::string svg = svg_curves({.title = "t", .x_label = "x", .y_label = "y"}, {{"s", {0, 5, 10}, {0, 2, 4}}});
  EXPECT_HAS(svg, "M66.0 258.0L256.0 149.0L446.0 40.0");
  expect_well_formed(svg);
  const std::string broken =
      svg_curves({.title = "t", .x_label = "x", .y_label = "y", .log_y = true}, {{"s", {0, 5, 10}, {1, 0, 100}}});
  EXPECT_HAS(broken, "M66.0 258.0M446.0 40.0");  // 0 has no logarithm
  constexpr double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  expect_well_formed(svg_curves({.title = "t"}, {}));
  expect_well_formed(svg_curves({.title = "t"}, {{"none", {}, {}}, {"bad", {0, 1, 2}, {nan, inf, -inf}}}));
  expect_well_formed(svg_curves({.title = "t"}, {{"one", {3}, {7}, {nan}}}));
}

TEST(Curves, NameEachAtItsEndWithoutCovering) {
  std::vector<Series> series;
  series.reserve(30);
  for (int i = 0; i < 30; ++i) series.push_back({"class " + std::to_string(i), {0, 1}, {0, 0.5}});  // all end together
  const std::string svg = svg_curves({.title = "t"}, series);
  expect_well_formed(svg);
  pugi::xml_document document;
  ASSERT_TRUE(document.load_string(svg.c_str()));
  std::vector<double> places;
  for (const auto& text : document.child("svg").children("text"))
    if (std::string(text.text().get()).starts_with("class ")) places.push_back(text.attribute("y").as_double());
  ASSERT_EQ(places.size(), 30U);
  std::sort(places.begin(), places.end());
  const double height = document.child("svg").attribute("height").as_double();
  EXPECT_GT(places.front(), 0);
  EXPECT_LT(places.back(), height);
  for (size_t i = 1; i < places.size(); ++i) EXPECT_GE(places[i] - places[i - 1], 12);
}

TEST(Curves, TellThemselvesToThoseWhoCannotSeeThem) {
  const Axes axes{.title = "A <b> & \"c\"", .description = "From 1 to 2.", .id = "loss"};
  pugi::xml_document document;
  ASSERT_TRUE(document.load_string(svg_curves(axes, {{"s", {0, 1}, {1, 2}}}).c_str()));
  const pugi::xml_node svg = document.child("svg");
  EXPECT_STREQ(svg.attribute("role").value(), "img");
  EXPECT_STREQ(svg.attribute("aria-labelledby").value(), "loss-t loss-d");
  EXPECT_STREQ(svg.child("title").text().get(), "A <b> & \"c\"");
  EXPECT_STREQ(svg.child("desc").text().get(), "From 1 to 2.");
  EXPECT_FALSE(svg.child("style")) << "the page has the styles";
}

TEST(Bars, AreAsLongAsTheirValuesAndNamesAreEscaped) {
  const std::string svg = svg_bars({.title = "t"}, {{"A & <B>", 0.5}, {"b", 1.0}, {"none", std::nullopt}});
  expect_well_formed(svg);
  EXPECT_HAS(svg, "A &amp; &lt;B&gt;");
  pugi::xml_document document;
  ASSERT_TRUE(document.load_string(svg.c_str()));
  std::vector<double> widths;
  for (const auto& rect : document.child("svg").children("rect"))
    if (std::string(rect.attribute("class").value()).starts_with("f"))
      widths.push_back(rect.attribute("width").as_double());
  ASSERT_EQ(widths.size(), 2U);
  EXPECT_NEAR(widths[1], 2 * widths[0], 0.11);
  expect_well_formed(svg_bars({.title = "t", .log_y = true}, {{"zero", 0.0}, {"a", 1e-3}, {"b", 10.0}}));
  expect_well_formed(svg_bars({.title = "t"}, {}));
}

TEST(Texts, AreSafeWhateverTheyHold) {
  EXPECT_EQ(svg::escaped("<b>&\"'"), "&lt;b&gt;&amp;&quot;'");
  EXPECT_EQ(svg::escaped("a\nb\x01\xff"), "a\\x0ab\\x01\\xff");
  EXPECT_EQ(svg::escaped("a\nb<\n", /*lines=*/true), "a\nb&lt;\n");
  EXPECT_EQ(svg::escaped("\u03b1\u207a"), "\u03b1\u207a");
  EXPECT_EQ(svg::shortened("short", 100), "short");
  EXPECT_EQ(svg::shortened("\u03b1\u03b1\u03b1\u03b1\u03b1\u03b1\u03b1\u03b1\u03b1\u03b1", 40),
            "\u03b1\u03b1\u03b1\u03b1\u2026");
}

}  // namespace
}  // namespace gradlibra
