// SPDX-License-Identifier: MIT
// Reads a safetensors header event by event: nothing nests deeper than the format does, no key comes twice, every
// tensor has its bytes.
#include "runtime/base/safetensors_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <unordered_set>

namespace gradlibra {
namespace {

std::string shortened(const std::string& text) { return text.size() <= 120 ? text : text.substr(0, 117) + "..."; }

// The header is  { tensor: {"dtype": text, "shape": [..], "data_offsets": [.., ..]}, ..., "__metadata__": {text: text}
// }.
class HeaderEvents {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  HeaderEvents(SafetensorsHeader& header, std::string_view file) : header_(header), file_(file) {}

  bool null() { return unexpected("null"); }
  bool boolean(bool) { return unexpected("true or false"); }
  bool number_integer(number_integer_t value) { return unexpected("the negative number " + std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) { return unexpected("the number " + shortened(text)); }
  bool binary(binary_t&) { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) {
    if (inside_ == Inside::shape) {
      if (value > static_cast<uint64_t>(INT64_MAX)) return unexpected("the size " + std::to_string(value));
      entry_.shape.push_back(static_cast<int64_t>(value));
    } else if (inside_ == Inside::offsets && offsets_.size() < 2) {
      offsets_.push_back(value);
    } else {
      return unexpected("the number " + std::to_string(value));
    }
    return true;
  }

  bool string(string_t& value) {
    if (inside_ == Inside::metadata) {
      header_.metadata[key_] = std::move(value);
    } else if (inside_ == Inside::tensor && key_ == "dtype") {
      if (!parse_dtype(value, entry_.dtype)) refuse("the unknown dtype '" + shortened(value) + "'");
      has_dtype_ = true;
    } else {
      return unexpected("the text '" + shortened(value) + "'");
    }
    return true;
  }

  bool start_object(size_t) {
    if (inside_ == Inside::nothing) {
      inside_ = Inside::top;
    } else if (inside_ == Inside::top) {
      inside_ = name_ == "__metadata__" ? Inside::metadata : Inside::tensor;
      keys_.clear();
      entry_ = {};
      offsets_.clear();
      has_dtype_ = has_shape_ = has_offsets_ = false;
    } else {
      return unexpected("an object");
    }
    return true;
  }

  bool key(string_t& value) {
    if (inside_ == Inside::top) {
      if (!names_.insert(value).second) {
        throw SafetensorsError(std::string(file_) + ": the name '" + shortened(value) + "' occurs twice in the header");
      }
      name_ = std::move(value);
    } else {
      if (!keys_.insert(value).second) refuse("the key '" + shortened(value) + "' twice");
      key_ = std::move(value);
      if (inside_ == Inside::tensor && key_ != "dtype" && key_ != "shape" && key_ != "data_offsets") {
        refuse("the unexpected key '" + shortened(key_) + "'");
      }
    }
    return true;
  }

  bool end_object() {
    if (inside_ == Inside::tensor) finish_tensor();
    inside_ = inside_ == Inside::top ? Inside::nothing : Inside::top;
    return true;
  }

  bool start_array(size_t) {
    if (inside_ == Inside::tensor && key_ == "shape") {
      inside_ = Inside::shape;
      has_shape_ = true;
    } else if (inside_ == Inside::tensor && key_ == "data_offsets") {
      inside_ = Inside::offsets;
      has_offsets_ = true;
    } else {
      return unexpected("a list");
    }
    return true;
  }
  bool end_array() {
    inside_ = Inside::tensor;
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& error) {
    throw SafetensorsError(std::string(file_) + ": damaged header: " + shortened(error.what()));
  }

 private:
  enum class Inside { nothing, top, metadata, tensor, shape, offsets };

  [[noreturn]] void refuse(const std::string& found) const {
    const std::string where =
        inside_ == Inside::nothing || inside_ == Inside::top ? "header" : "tensor '" + shortened(name_) + "'";
    throw SafetensorsError(std::string(file_) + ": " + where + ": found " + found);
  }

  bool unexpected(const std::string& found) const {
    switch (inside_) {
      case Inside::nothing:
      case Inside::top:
        refuse(found + (names_.empty() ? "" : " as '" + shortened(name_) + "'") + ", expected an object");
      case Inside::metadata:
        refuse(found + " as '" + shortened(key_) + "', expected text");
      case Inside::tensor:
        refuse(found + " as '" + shortened(key_) + "', expected " + (key_ == "dtype" ? "text" : "a list"));
      case Inside::shape:
        refuse(found + " in shape, expected sizes from 0 to 2^63 - 1");
      case Inside::offsets:
        refuse(found + " in data_offsets, expected two positions");
    }
    return false;
  }

  void finish_tensor() {
    if (!has_dtype_ || !has_shape_ || !has_offsets_ || offsets_.size() != 2)
      refuse("no complete dtype, shape and data_offsets");
    entry_.name = name_;
    entry_.begin = offsets_[0];
    entry_.end = offsets_[1];
    uint64_t bytes = 0;
    if (!safetensors_bytes(entry_.shape, entry_.dtype, bytes)) refuse("a shape whose size overflows");
    if (entry_.end < entry_.begin || entry_.end - entry_.begin != bytes) {
      refuse("data_offsets [" + std::to_string(entry_.begin) + ", " + std::to_string(entry_.end) +
             "], but its shape takes " + std::to_string(bytes) + " bytes");
    }
    header_.entries.push_back(std::move(entry_));
  }

  SafetensorsHeader& header_;
  std::string_view file_;
  Inside inside_ = Inside::nothing;
  std::string name_, key_;
  SafetensorsHeader::Entry entry_;
  std::vector<uint64_t> offsets_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  std::unordered_set<std::string> names_, keys_;
};

}  // namespace

SafetensorsHeader parse_safetensors_header(const std::string& json, uint64_t data_bytes, std::string_view name) {
  const std::string file(name);
  if (json.empty() || json[0] != '{')
    throw SafetensorsError(file + ": not a safetensors file: the header does not start with '{'");
  if (json.find('\0') !=
      std::string::npos) {  // to the JSON library a zero byte is the end, and what follows would go unseen
    throw SafetensorsError(file + ": damaged header: it has a zero byte");
  }
  SafetensorsHeader header;
  HeaderEvents events(header, name);
  if (!nlohmann::json::sax_parse(json, &events)) throw SafetensorsError(file + ": damaged header");
  std::sort(header.entries.begin(), header.entries.end(),
            [](const SafetensorsHeader::Entry& a, const SafetensorsHeader::Entry& b) {
              return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
            });
  uint64_t end = 0;
  for (const SafetensorsHeader::Entry& entry : header.entries) {
    if (entry.begin != end) {
      throw SafetensorsError(file + ": tensor '" + shortened(entry.name) + "': begins at byte " +
                             std::to_string(entry.begin) +
                             (entry.begin < end ? ", inside the tensor before it" : ", leaving a gap") + " (expected " +
                             std::to_string(end) + ")");
    }
    end = entry.end;
  }
  if (end != data_bytes) {
    throw SafetensorsError(file + (end > data_bytes ? ": truncated: " : ": too long: ") + "the tensors take " +
                           std::to_string(end) + " bytes, the file has " + std::to_string(data_bytes));
  }
  return header;
}

}  // namespace gradlibra
