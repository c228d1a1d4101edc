// SPDX-License-Identifier: MIT
// Bytes that are text, and bytes that are not.
#include "runtime/base/utf8.h"

#include <gtest/gtest.h>

#include "runtime/base/config.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

TEST(Utf8, WhatIsWellFormed) {
  for (const char* text : {"", "plain", "Zellk\xc3\xb6rper", "\xe7\xbb\x86\xe8\x83\x9e", "\xf0\x9f\x94\xac",
                           "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"})
    EXPECT_EQ(find_invalid_utf8(text), std::string::npos) << text;
  EXPECT_EQ(find_invalid_utf8("Zelle \xe9"), 6u);        // Latin-1
  EXPECT_EQ(find_invalid_utf8("a\xc3"), 1u);             // cut off
  EXPECT_EQ(find_invalid_utf8("\xc0\xaf"), 0u);          // overlong
  EXPECT_EQ(find_invalid_utf8("\xe0\x80\xaf"), 0u);      // overlong
  EXPECT_EQ(find_invalid_utf8("\xed\xa0\x80"), 0u);      // a surrogate
  EXPECT_EQ(find_invalid_utf8("\xf4\x90\x80\x80"), 0u);  // beyond U+10FFFF
  EXPECT_EQ(find_invalid_utf8("\xf5\x80\x80\x80"), 0u);
  EXPECT_EQ(find_invalid_utf8(std::string_view("\xe7\xbb", 2)), 0u);
}

TEST(Utf8, EscapingGivesTextAndKeepsApart) {
  EXPECT_EQ(escaped("Zelle \xe9\n"), "Zelle \\xe9\\x0a");
  EXPECT_EQ(escaped("Zellk\xc3\xb6rper"), "Zellk\xc3\xb6rper");
  EXPECT_NE(escaped("\xe9"), escaped("\xe8"));
}

TEST(Utf8, ProblemsAreNamedWithLineAndRemedy) {
  EXPECT_EQ(encoding_problem("a\nb\n"), "");
  EXPECT_EQ(encoding_problem("one\ntwo: caf\xe9\n"),
            "line 2: is not UTF-8: 'two: caf\\xe9' holds the byte \\xe9 (Latin-1?): save the file as UTF-8");
  EXPECT_NE(encoding_problem(std::string_view("\xff\xfe"
                                              "a\0",
                                              4))
                .find("UTF-16"),
            std::string::npos);
  EXPECT_NE(encoding_problem(std::string_view("a\0b\0c\0d\0e\0f\0g\0h\0", 16)).find("UTF-16"), std::string::npos);
}

struct OneName {
  std::string name;
  void describe(ConfigVisitor& v) { v.field("name", name, "a name"); }
};

TEST(Utf8, AConfigurationIsRefusedWithItsLine) {
  OneName config;
  const auto message = [&](std::string_view yaml) {
    return message_of<ConfigError>([&] { ConfigSource::from_text(yaml, "my.yaml").read_into(config); });
  };
  EXPECT_HAS(message("# a\nname: Zelle \xe9\n"), "my.yaml: line 2: is not UTF-8");
  EXPECT_HAS(message(std::string_view("\xff\xfen\0a\0", 6)), "UTF-16");
  EXPECT_HAS(message("a:\n\tname: b\n"), "indented with a tab");
  ConfigSource::from_text("name: Zellk\xc3\xb6rper\n", "my.yaml").read_into(config);
  EXPECT_EQ(config.name, "Zellk\xc3\xb6rper");
}

TEST(Printable, KeepsLinesAndNothingElseThatATerminalObeys) {
  using namespace std::string_literals;
  EXPECT_EQ(printable("a\nb\n"), "a\nb\n");
  EXPECT_EQ(printable(""), "");
  EXPECT_EQ(printable("\n\n"), "\n\n");
  EXPECT_EQ(printable("a\0b\nc\x1b[2Jd\xff"s), "a\\x00b\nc\\x1b[2Jd\\xff");
}

}  // namespace
}  // namespace gradlibra
