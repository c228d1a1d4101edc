// SPDX-License-Identifier: MIT
// Pieces of HTML. What is called `html` is markup already; everything else is escaped here.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gradlibra::html {

// Text as content or attribute value, safe whatever it holds. With `lines` line breaks stay.
[[nodiscard]] std::string text(std::string_view content, bool lines = false);
[[nodiscard]] std::string code(std::string_view content);
// A line in which `names` stand between backquotes.
[[nodiscard]] std::string with_code(const std::string& line);
[[nodiscard]] std::string paragraph(const std::string& html, std::string_view classes = {});

// Each cell is markup. The first of a row is its header; columns from `texts` on are numbers, to the right.
struct Table {
  std::string caption = {};  // markup
  std::string label = {};    // of the box in which a wide table scrolls
  std::vector<std::string> head = {};
  struct Row {
    std::vector<std::string> cells = {};
    std::string classes = {};
  };
  std::vector<std::vector<Row>> bodies = {};
  size_t texts = 1;
  std::string classes = {};
};
[[nodiscard]] std::string table(const Table& table);

// Beside each other while there is room.
[[nodiscard]] std::string figure(const std::string& svg, const std::string& caption_html);
[[nodiscard]] std::string figures(const std::vector<std::string>& figures, std::string_view classes = "figures");
// Opened by who wants it; open on paper.
[[nodiscard]] std::string details(std::string_view summary, const std::string& html, bool open = false);
// A part whose data are not there: why, and the command that makes them.
[[nodiscard]] std::string missing(const std::string& why_html, std::string_view command);

struct Section {
  std::string id, title;
  std::string html = {};
  std::string short_title = {};  // in the list of sections; empty: the title
};
struct Page {
  std::string kind;   // above the title: what this is a report of
  std::string title;  // as text
  std::string lead;   // markup below the title
  std::vector<Section> sections;
  std::string foot;  // markup
};
[[nodiscard]] std::string page(const Page& page);
[[nodiscard]] const std::string& stylesheet();

[[nodiscard]] std::string base64(std::string_view bytes);
// 0.9361 as "93.6", nothing as an en dash.
[[nodiscard]] std::string per_cent(const std::optional<double>& share);

}  // namespace gradlibra::html
