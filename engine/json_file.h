// SPDX-License-Identifier: MIT
// JSON that another program has written: every value knows its place, so that what is wrong with it is named.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace gradlibra {

// A value and where it stands. All of it throws std::runtime_error "FILE: classes[3].AP: is text, not a number".
class JsonValue {
 public:
  using Json = nlohmann::ordered_json;
  JsonValue(const Json& value, std::string file, std::string place = {})
      : value_(&value), file_(std::move(file)), place_(std::move(place)) {}

  [[nodiscard]] bool has(const std::string& key) const { return value_->is_object() && value_->contains(key); }
  [[nodiscard]] bool is_null() const { return value_->is_null(); }
  [[nodiscard]] JsonValue operator[](const std::string& key) const;
  [[nodiscard]] std::vector<JsonValue> list() const;
  [[nodiscard]] std::vector<std::pair<std::string, JsonValue>> members() const;
  [[nodiscard]] double number() const;  // finite
  [[nodiscard]] std::optional<double> number_or_null() const;
  [[nodiscard]] int64_t count() const;  // a whole number, 0 or more
  [[nodiscard]] int64_t integer() const;
  [[nodiscard]] std::string text() const;
  [[nodiscard]] std::vector<double> numbers(size_t size) const;
  [[nodiscard]] const Json& json() const { return *value_; }
  [[noreturn]] void fail(const std::string& what) const;

 private:
  [[nodiscard]] std::string kind() const;
  const Json* value_;
  std::string file_, place_;
};

// The whole file. std::runtime_error names it, and line and column of what is no JSON.
[[nodiscard]] JsonValue::Json read_json_file(const std::filesystem::path& file);

}  // namespace gradlibra
