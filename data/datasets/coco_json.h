// SPDX-License-Identifier: MIT
// The JSON of a COCO file as people and programs really write it: NaN in it, ids of several types, bulk that nobody
// reads. coco.cpp makes a data set of it.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace gradlibra::coco {

using Json = nlohmann::json;

// A field that an entry of a list has twice: which of the two is meant cannot be told.
struct RepeatedKey {
  std::string list;  // "annotations"
  size_t index = 0;
  std::string key;
};

// The file with only the fields that are used: polygons and other bulk are dropped while parsing. NaN and Infinity,
// which are not JSON, become text that spell_box() turns back. std::runtime_error names file, line and column. A list
// that is there twice is an error, too, for a parser keeps the last alone; of entries, `repeated` gets the fields that
// are, and without it such a field is an error.
[[nodiscard]] Json parse(const std::filesystem::path& file, bool categories_only,
                         std::vector<RepeatedKey>* repeated = nullptr);

// A member of an object; null if there is none, or no object.
[[nodiscard]] const Json& member(const Json& object, const char* key);
// std::runtime_error if it is no array.
[[nodiscard]] const Json& array_of(const Json& document, const char* key, const std::filesystem::path& file);
[[nodiscard]] std::optional<int64_t> integer(const Json& value);

// An id as people write it: 1, 1.0 and "1" are one; other text stands for itself.
enum class IdType { number, fraction, text };
struct Id {
  std::string text;
  IdType type = IdType::number;
  bool numeric = true;  // the text is that of a whole number
};
// Empty: no id.
[[nodiscard]] std::optional<Id> id_of(const Json& value);
// Of a numeric one.
[[nodiscard]] int64_t number_of(const Id& id);

// Which types of id a list has, for one finding where there are several.
struct IdTypes {
  std::array<int64_t, 3> counts{};
  void add(const Id& id) { ++counts[static_cast<size_t>(id.type)]; }
  [[nodiscard]] int several() const;
  [[nodiscard]] std::string text() const;
};

// For messages: short, whatever the file holds.
[[nodiscard]] std::string spell(const Json& value);
// A box as the file has it.
[[nodiscard]] std::string spell_box(const Json& box);

}  // namespace gradlibra::coco
