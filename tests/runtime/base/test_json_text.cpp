// SPDX-License-Identifier: MIT
// JSON from others: depth, numbers beyond any range, what is none.
#include "runtime/base/json_text.h"

#include <gtest/gtest.h>

#include "tests/messages.h"

namespace gradlibra {
namespace {

std::string nested(int levels) { return std::string(levels, '[') + std::string(levels, ']'); }

TEST(JsonText, DepthIsLimited) {
  EXPECT_FALSE(nests_deeper(nested(64)));
  EXPECT_TRUE(nests_deeper(nested(65)));
  EXPECT_TRUE(nests_deeper(R"({"a": [{"b": 1}]})", 2));
  EXPECT_FALSE(nests_deeper(R"({"a": [{"b": 1}]})", 3));
  EXPECT_FALSE(nests_deeper(R"(["[[\"[[", "\\", []])", 2)) << "brackets in texts";
  EXPECT_TRUE(nests_deeper(R"(["\\", [[]]])", 2)) << "a text ends behind an escaped backslash";
  EXPECT_FALSE(nests_deeper("[[]],[[]],[[]]", 2));
  EXPECT_FALSE(nests_deeper(R"("\)")) << "cut off behind a backslash";

  EXPECT_EQ(parse_json(nested(64)).size(), 1U);
  EXPECT_EQ(message_of([] { (void)parse_json(nested(100000)); }),
            "is no JSON of this program: nests deeper than 64 levels");
  EXPECT_TRUE(parse_json_or_discard(nested(100000)).is_discarded());
}

TEST(JsonText, WhatIsNoneIsSaid) {
  EXPECT_EQ(parse_json(R"({"a": 1.5})").at("a"), 1.5);
  EXPECT_EQ(parse_json<nlohmann::ordered_json>(R"({"b": 1, "a": 2})").begin().key(), "b");
  EXPECT_HAS(message_of([] { (void)parse_json("[1,\n x]"); }), "is no JSON: at line 2, column 2: ");
  EXPECT_HAS(message_of([] { (void)parse_json("[1e400]"); }), "is no JSON: number overflow parsing '1e400'");
  EXPECT_EQ(message_of([] { (void)parse_json("[\"\x1b\"]"); }).find('\x1b'), std::string::npos);
  EXPECT_TRUE(parse_json_or_discard("[1e400]").is_discarded());
  EXPECT_TRUE(parse_json_or_discard("[1").is_discarded());
  EXPECT_TRUE(parse_json_or_discard("").is_discarded());
}

}  // namespace
}  // namespace gradlibra
