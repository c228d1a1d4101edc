// SPDX-License-Identifier: MIT
#include "engine/json_file.h"

#include <fmt/format.h>

#include <cmath>
#include <stdexcept>

#include "runtime/base/files.h"
#include "runtime/base/json_text.h"
#include "runtime/base/utf8.h"

namespace gradlibra {

void JsonValue::fail(const std::string& what) const {
  throw std::runtime_error(fmt::format("{}: {}{}", file_, place_.empty() ? "" : escaped(place_) + ": ", what));
}

std::string JsonValue::kind() const {
  if (value_->is_string()) return "text";
  if (value_->is_array()) return "a list";
  if (value_->is_object()) return "an object";
  return value_->is_null() ? "null" : escaped(value_->dump());
}

JsonValue JsonValue::operator[](const std::string& key) const {
  if (!value_->is_object()) fail("is " + kind() + ", not an object");
  const auto found = value_->find(key);
  const std::string place = place_.empty() ? key : place_ + "." + key;
  if (found == value_->end()) JsonValue(*value_, file_, place).fail("is not there");
  return {*found, file_, place};
}

std::vector<JsonValue> JsonValue::list() const {
  if (!value_->is_array()) fail("is " + kind() + ", not a list");
  std::vector<JsonValue> values;
  for (size_t i = 0; i < value_->size(); ++i)
    values.emplace_back((*value_)[i], file_, fmt::format("{}[{}]", place_, i));
  return values;
}

std::vector<std::pair<std::string, JsonValue>> JsonValue::members() const {
  if (!value_->is_object()) fail("is " + kind() + ", not an object");
  std::vector<std::pair<std::string, JsonValue>> values;
  for (const auto& [key, value] : value_->items())
    values.emplace_back(key, JsonValue(value, file_, place_.empty() ? key : place_ + "." + key));
  return values;
}

double JsonValue::number() const {
  if (!value_->is_number()) fail("is " + kind() + ", not a number");
  const auto value = value_->get<double>();
  if (!std::isfinite(value)) fail("is not finite");
  return value;
}

std::optional<double> JsonValue::number_or_null() const { return is_null() ? std::nullopt : std::optional(number()); }

int64_t JsonValue::integer() const {
  if (!value_->is_number_integer()) fail("is " + kind() + ", not a whole number");
  return value_->get<int64_t>();
}

int64_t JsonValue::count() const {
  const int64_t value = integer();
  if (value < 0) fail("is " + std::to_string(value) + ", and a count is 0 or more");
  return value;
}

std::string JsonValue::text() const {
  if (!value_->is_string()) fail("is " + kind() + ", not text");
  return value_->get<std::string>();
}

std::vector<double> JsonValue::numbers(size_t size) const {
  std::vector<double> values;
  for (const JsonValue& one : list()) values.push_back(one.number());
  if (values.size() != size) fail(fmt::format("has {} numbers, not {}", values.size(), size));
  return values;
}

JsonValue::Json read_json_file(const std::filesystem::path& file) {
  constexpr int64_t kMaxBytes = int64_t{256} << 20;
  const std::string text = read_file(file, kMaxBytes);
  try {
    return parse_json<JsonValue::Json>(text);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(file.string() + ": " + error.what());
  }
}

}  // namespace gradlibra
