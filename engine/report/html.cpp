// SPDX-License-Identifier: MIT
#include "engine/report/html.h"

#include <fmt/format.h>

#include "engine/plots/svg.h"

namespace gradlibra::html {
namespace {

std::string row(const char* cell, const Table& table, const Table::Row& row) {
  std::string html = row.classes.empty() ? "<tr>" : fmt::format("<tr class=\"{}\">", row.classes);
  for (size_t i = 0; i < row.cells.size(); ++i) {
    const char* number = i >= table.texts ? " class=\"n\"" : "";
    const bool head = cell[1] == 'h';
    if (head || i == 0)
      html += fmt::format("<th scope=\"{}\"{}>{}</th>", head ? "col" : "row", number, row.cells[i]);
    else
      html += fmt::format("<td{}>{}</td>", number, row.cells[i]);
  }
  return html + "</tr>\n";
}

}  // namespace

std::string text(std::string_view content, bool lines) { return svg::escaped(content, lines); }
std::string code(std::string_view content) { return "<code>" + text(content) + "</code>"; }
std::string with_code(const std::string& line) {
  std::string html;
  size_t begin = 0;
  bool inside = false;
  for (size_t end; (end = line.find('`', begin)) != std::string::npos; begin = end + 1, inside = !inside)
    html += inside ? code(line.substr(begin, end - begin)) : text(line.substr(begin, end - begin));
  return html + text(line.substr(begin));
}
std::string paragraph(const std::string& html, std::string_view classes) {
  return classes.empty() ? "<p>" + html + "</p>\n" : fmt::format("<p class=\"{}\">{}</p>\n", classes, html);
}

std::string table(const Table& table) {
  std::string html = fmt::format("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\">\n<table{}>\n",
                                 text(table.label.empty() ? "Table" : table.label),
                                 table.classes.empty() ? "" : " class=\"" + table.classes + "\"");
  if (!table.caption.empty()) html += "<caption><span>" + table.caption + "</span></caption>\n";
  html += "<thead>" + row("th", table, {.cells = table.head}) + "</thead>\n";
  for (const auto& body : table.bodies) {
    if (body.empty()) continue;
    html += "<tbody>";
    for (const Table::Row& one : body) html += row("td", table, one);
    html += "</tbody>\n";
  }
  return html + "</table>\n</div>\n";
}

std::string figure(const std::string& svg, const std::string& caption_html) {
  return "<figure>\n" + svg + "<figcaption>" + caption_html + "</figcaption>\n</figure>\n";
}

std::string figures(const std::vector<std::string>& figures, std::string_view classes) {
  std::string html = fmt::format("<div class=\"{}\">\n", classes);
  for (const std::string& one : figures) html += one;
  return html + "</div>\n";
}

std::string details(std::string_view summary, const std::string& html, bool open) {
  return fmt::format("<details{}>\n<summary>{}</summary>\n{}</details>\n", open ? " open=\"open\"" : "", text(summary),
                     html);
}

std::string missing(const std::string& why_html, std::string_view command) {
  std::string html = "<div class=\"missing\">\n" + paragraph(why_html);
  if (!command.empty()) html += "<pre tabindex=\"0\">" + text(command, true) + "</pre>\n";
  return html + "</div>\n";
}

std::string page(const Page& page) {
  const std::string title = text(page.title);
  // The policy makes a browser refuse whatever is not in this file.
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src "
      "data:\"/>\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<meta name=\"color-scheme\" content=\"light dark\"/>\n<link rel=\"icon\" href=\"data:,\"/>\n"
      "<title>{} - {}</title>\n<style>\n{}{}\n</style>\n</head>\n<body>\n"
      "<a class=\"skip\" href=\"#content\">Skip to the content</a>\n<header>\n<p class=\"kind\">{}</p>\n<h1>{}</h1>\n"
      "{}</header>\n<nav aria-label=\"Sections\">\n<ol>\n",
      title, text(page.kind), stylesheet(), svg::styles(), text(page.kind), title, page.lead);
  for (const Section& one : page.sections)
    html += fmt::format("<li><a href=\"#{}\">{}</a></li>\n", one.id,
                        text(one.short_title.empty() ? one.title : one.short_title));
  html += "</ol>\n</nav>\n<main id=\"content\" tabindex=\"-1\">\n";
  for (const Section& one : page.sections)
    html += fmt::format("<section id=\"{0}\" aria-labelledby=\"{0}-h\">\n<h2 id=\"{0}-h\">{1}</h2>\n{2}</section>\n",
                        one.id, text(one.title), one.html);
  return html + "</main>\n<footer>\n" + page.foot + "</footer>\n</body>\n</html>\n";
}

std::string base64(std::string_view bytes) {
  constexpr const char* kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string result;
  result.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t word = 0;
    for (size_t k = 0; k < 3; ++k)
      word = word << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    for (size_t k = 0; k < 4; ++k) result += k <= bytes.size() - i ? kDigits[word >> (18 - 6 * k) & 63] : '=';
  }
  return result;
}

std::string per_cent(const std::optional<double>& share) {
  return share ? fmt::format("{:.1f}", 100 * *share) : "\u2013";
}

}  // namespace gradlibra::html
