// SPDX-License-Identifier: MIT
// What every page of HTML here must be: well-formed, whole in itself, and usable without eyes or mouse.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <pugixml.hpp>
#include <set>
#include <string>
#include <vector>

namespace gradlibra {

struct SoundPage : pugi::xml_tree_walker {
  std::set<std::string> ids;
  std::vector<std::string> references;
  int headings = 0;

  bool for_each(pugi::xml_node& node) override {
    const std::string name = node.name();
    EXPECT_NE(name, "script");
    EXPECT_NE(name, "link") << "but for the empty icon, which is read apart";
    for (const auto& attribute : node.attributes()) {
      const std::string key = attribute.name(), value = attribute.value();
      EXPECT_FALSE(key.starts_with("on")) << key;
      EXPECT_TRUE(key != "id" || ids.insert(value).second) << "twice: " << value;
      if (key == "aria-labelledby")
        for (size_t at = 0, end = 0; at < value.size(); at = end + 1) {
          end = std::min(value.find(' ', at), value.size());
          references.push_back(value.substr(at, end - at));
        }
      if (key == "src" || key == "href") check_address(name, value);
    }
    if (name == "h1") ++headings;
    if (name == "svg" && !node.attribute("aria-hidden")) {
      EXPECT_STREQ(node.attribute("role").value(), "img");
      EXPECT_GT(std::string(node.child("title").text().get()).size(), 0U);
    }
    EXPECT_TRUE(name != "th" || node.attribute("scope"));
    EXPECT_TRUE(name != "table" || node.parent().attribute("class").value() == std::string("scroll"));
    return true;
  }
  void check_address(const std::string& element, const std::string& address) {
    if (address.starts_with("#")) return references.push_back(address.substr(1));
    const bool embedded = address.starts_with("data:"), own = element == "a" && address.starts_with("runs/");
    EXPECT_TRUE(embedded || own) << element << ": " << address;
  }
};

inline void expect_sound_page(const std::string& html) {
  EXPECT_TRUE(html.starts_with("<!DOCTYPE html>\n<html lang=\"en\""));
  pugi::xml_document document;
  const pugi::xml_parse_result parsed = document.load_string(html.c_str());
  ASSERT_TRUE(parsed) << parsed.description() << " at "
                      << html.substr(static_cast<size_t>(std::max<ptrdiff_t>(0, parsed.offset - 80)), 160);
  pugi::xml_node head = document.child("html").child("head"), body = document.child("html").child("body");
  EXPECT_STREQ(head.child("link").attribute("href").value(), "data:,");
  head.remove_child("link");
  EXPECT_STREQ(body.first_child().attribute("class").value(), "skip");
  for (const char* landmark : {"header", "nav", "main", "footer"}) EXPECT_TRUE(body.child(landmark)) << landmark;
  SoundPage page;
  document.traverse(page);
  EXPECT_EQ(page.headings, 1);
  for (const std::string& id : page.references) EXPECT_TRUE(page.ids.contains(id)) << "no element has the id " << id;
  EXPECT_EQ(html.find("url("), std::string::npos);
  EXPECT_EQ(html.find("@import"), std::string::npos);
}

// The text of a section, markup taken out; empty if there is none of that id.
inline std::string section_text(const std::string& html, const std::string& id) {
  pugi::xml_document document;
  if (!document.load_string(html.c_str())) return "";
  const pugi::xml_node section = document.select_node(("//section[@id='" + id + "']").c_str()).node();
  std::string text;
  for (const auto& one : section.select_nodes(".//text()")) text += one.node().value();
  return text;
}

}  // namespace gradlibra
