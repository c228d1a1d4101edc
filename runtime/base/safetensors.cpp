// SPDX-License-Identifier: MIT
// The safetensors format: values, writing, and reading of the data behind a checked header.
#include "runtime/base/safetensors.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/base/safetensors_header.h"

namespace gradlibra {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are copied to and from little-endian files");

struct DTypeInfo {
  std::string_view name;
  size_t bytes;
};
constexpr std::array<DTypeInfo, 15> kDTypes{{{"BOOL", 1},
                                             {"U8", 1},
                                             {"I8", 1},
                                             {"F8_E5M2", 1},
                                             {"F8_E4M3", 1},
                                             {"I16", 2},
                                             {"U16", 2},
                                             {"F16", 2},
                                             {"BF16", 2},
                                             {"I32", 4},
                                             {"U32", 4},
                                             {"F32", 4},
                                             {"F64", 8},
                                             {"I64", 8},
                                             {"U64", 8}}};

template <class T>
constexpr FileDType kFileDType = FileDType::f32;
template <>
constexpr FileDType kFileDType<double> = FileDType::f64;
template <>
constexpr FileDType kFileDType<int64_t> = FileDType::i64;
template <>
constexpr FileDType kFileDType<int32_t> = FileDType::i32;
template <>
constexpr FileDType kFileDType<uint8_t> = FileDType::u8;

float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 31u, mantissa = half & 1023u;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact in float
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

template <class Stored, class Convert>
std::vector<float> convert(const std::vector<std::byte>& bytes, Convert to_float) {
  std::vector<float> result(bytes.size() / sizeof(Stored));
  for (size_t i = 0; i < result.size(); ++i) {
    Stored value;
    std::memcpy(&value, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    result[i] = to_float(value);
  }
  return result;
}

// Number of bytes the shape asks for; false on overflow or a negative size. Factors are multiplied in order, so a zero
// behind an overflow does not excuse it.
bool bytes_of(const std::vector<int64_t>& shape, size_t value_bytes, uint64_t& bytes) {
  uint64_t product = 1;
  for (const int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(product, static_cast<uint64_t>(extent), &product)) return false;
  }
  return !__builtin_mul_overflow(product, static_cast<uint64_t>(value_bytes), &bytes);
}

std::string quoted(const std::string& text, const char* what) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw SafetensorsError(std::string("safetensors: ") + what + " is not valid UTF-8");
  }
}

std::string header_json(const std::vector<std::pair<std::string, const FileTensor*>>& order,
                        const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  const auto separate = [&json] {
    if (json.size() > 1) json += ',';
  };
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    bool first = true;
    for (const auto& [key, value] : metadata) {
      json += (first ? "" : ",") + quoted(key, "a metadata key") + ":" + quoted(value, "a metadata value");
      first = false;
    }
    json += '}';
  }
  uint64_t offset = 0;
  for (const auto& [name, tensor] : order) {
    uint64_t bytes = 0;
    if (name == "__metadata__") throw SafetensorsError("safetensors: a tensor cannot be named __metadata__");
    if (!bytes_of(tensor->shape, bytes_per_value(tensor->dtype), bytes) || bytes != tensor->bytes.size()) {
      throw SafetensorsError("safetensors: tensor '" + name + "': " + std::to_string(tensor->bytes.size()) +
                             " bytes do not fit its shape");
    }
    separate();
    json += quoted(name, "a tensor name") + ":{\"dtype\":\"" + std::string(to_string(tensor->dtype)) + "\",\"shape\":[";
    for (size_t i = 0; i < tensor->shape.size(); ++i) json += (i > 0 ? "," : "") + std::to_string(tensor->shape[i]);
    json += "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(offset + bytes) + "]}";
    offset += bytes;
  }
  json += '}';
  json.resize((json.size() + 7) / 8 * 8, ' ');  // the data starts 8-byte aligned
  return json;
}

[[noreturn]] void refuse(std::string_view name, const std::string& message) {
  throw SafetensorsError(std::string(name) + ": " + message);
}

// Reads a file of `file_bytes` bytes; `read(destination, count)` gives the next bytes or throws.
template <class Read>
SafetensorsFile read_from(uint64_t file_bytes, std::string_view name, const Read& read) {
  if (file_bytes < 8)
    refuse(name, "not a safetensors file: " + std::to_string(file_bytes) + " bytes, at least 8 are needed");
  uint64_t header_bytes = 0;
  read(&header_bytes, 8);
  std::array<char, 8> magic{};
  std::memcpy(magic.data(), &header_bytes, magic.size());
  const std::string_view begin(magic.data(), magic.size());
  // A zip file of torch.save, or a pickle of protocol 2 to 5.
  if (begin.starts_with("PK\x03\x04") || (begin[0] == '\x80' && begin[1] >= 2 && begin[1] <= 5))
    refuse(name, "is a file of PyTorch, not safetensors; scripts/pth_to_safetensors.py converts it");
  if (header_bytes > kMaxSafetensorsHeader) {
    refuse(name, "not a safetensors file: a header of " + std::to_string(header_bytes) + " bytes (at most 100000000)");
  }
  if (header_bytes > file_bytes - 8) {
    refuse(name, "truncated: the header has " + std::to_string(header_bytes) + " bytes, the file ends after " +
                     std::to_string(file_bytes - 8));
  }
  std::string json(header_bytes, '\0');
  read(json.data(), json.size());
  SafetensorsHeader header = parse_safetensors_header(json, file_bytes - 8 - header_bytes, name);
  json = {};
  SafetensorsFile file;
  file.metadata = std::move(header.metadata);
  for (SafetensorsHeader::Entry& entry : header.entries) {  // in the order of the data, without gaps
    FileTensor& tensor = file.tensors[entry.name];
    tensor.dtype = entry.dtype;
    tensor.shape = std::move(entry.shape);
    tensor.bytes.resize(entry.end - entry.begin);
    read(tensor.bytes.data(), tensor.bytes.size());
  }
  return file;
}

}  // namespace

std::string_view to_string(FileDType dtype) { return kDTypes[static_cast<size_t>(dtype)].name; }
size_t bytes_per_value(FileDType dtype) { return kDTypes[static_cast<size_t>(dtype)].bytes; }

bool parse_dtype(std::string_view name, FileDType& dtype) {
  for (size_t i = 0; i < kDTypes.size(); ++i) {
    if (kDTypes[i].name == name) {
      dtype = static_cast<FileDType>(i);
      return true;
    }
  }
  return false;
}

bool safetensors_bytes(const std::vector<int64_t>& shape, FileDType dtype, uint64_t& bytes) {
  return bytes_of(shape, bytes_per_value(dtype), bytes);
}

std::vector<float> FileTensor::to_floats() const {
  switch (dtype) {
    case FileDType::f32:
      return convert<float>(bytes, [](float value) { return value; });
    case FileDType::f64:
      return convert<double>(bytes, [](double value) { return static_cast<float>(value); });
    case FileDType::f16:
      return convert<uint16_t>(bytes, half_to_float);
    case FileDType::bf16:
      return convert<uint16_t>(bytes,
                               [](uint16_t value) { return std::bit_cast<float>(static_cast<uint32_t>(value) << 16); });
    default:
      throw SafetensorsError("found values of type " + std::string(to_string(dtype)) +
                             ", expected F32, F16, BF16 or F64");
  }
}

template <class T>
std::vector<T> FileTensor::values() const {
  if (dtype != kFileDType<T>) {
    throw SafetensorsError("found values of type " + std::string(to_string(dtype)) + ", expected " +
                           std::string(to_string(kFileDType<T>)));
  }
  std::vector<T> result(bytes.size() / sizeof(T));
  if (!result.empty()) std::memcpy(result.data(), bytes.data(), result.size() * sizeof(T));
  return result;
}

template <class T>
FileTensor make_file_tensor(std::span<const T> values, std::vector<int64_t> shape) {
  uint64_t bytes = 0;
  if (!bytes_of(shape, sizeof(T), bytes) || bytes != values.size_bytes()) {
    throw SafetensorsError("make_file_tensor: " + std::to_string(values.size()) + " values do not fit the shape");
  }
  const auto raw = std::as_bytes(values);
  return {kFileDType<T>, std::move(shape), {raw.begin(), raw.end()}};
}

bool all_finite(const FileTensor& tensor) {
  const auto finite = [](auto v) { return std::isfinite(v); };
  if (tensor.dtype == FileDType::f64) {
    const std::vector<double> values = tensor.values<double>();
    return std::all_of(values.begin(), values.end(), finite);
  }
  if (tensor.dtype != FileDType::f32 && tensor.dtype != FileDType::f16 && tensor.dtype != FileDType::bf16) return true;
  const std::vector<float> values = tensor.to_floats();
  return std::all_of(values.begin(), values.end(), finite);
}

template std::vector<float> FileTensor::values<float>() const;
template std::vector<double> FileTensor::values<double>() const;
template std::vector<int64_t> FileTensor::values<int64_t>() const;
template std::vector<int32_t> FileTensor::values<int32_t>() const;
template std::vector<uint8_t> FileTensor::values<uint8_t>() const;
template FileTensor make_file_tensor<float>(std::span<const float> values, std::vector<int64_t> shape);
template FileTensor make_file_tensor<double>(std::span<const double> values, std::vector<int64_t> shape);
template FileTensor make_file_tensor<int64_t>(std::span<const int64_t> values, std::vector<int64_t> shape);
template FileTensor make_file_tensor<int32_t>(std::span<const int32_t> values, std::vector<int64_t> shape);
template FileTensor make_file_tensor<uint8_t>(std::span<const uint8_t> values, std::vector<int64_t> shape);

SafetensorsFile parse_safetensors(std::span<const std::byte> bytes, std::string_view name) {
  size_t position = 0;
  return read_from(bytes.size(), name, [&](void* destination, size_t count) {
    if (count > 0) std::memcpy(destination, bytes.data() + position, count);
    position += count;
  });
}

SafetensorsFile read_safetensors(const std::filesystem::path& path) {
  const std::string name = path.string();
  std::error_code status;
  const uint64_t file_bytes = std::filesystem::file_size(path, status);
  if (status) refuse(name, "cannot read: " + status.message());
  std::ifstream stream(path, std::ios::binary);
  if (!stream) refuse(name, std::string("cannot open: ") + std::strerror(errno));
  return read_from(file_bytes, name, [&](void* destination, size_t count) {
    stream.read(static_cast<char*>(destination), static_cast<std::streamsize>(count));
    if (static_cast<size_t>(stream.gcount()) != count) {
      refuse(name,
             "short read: expected " + std::to_string(count) + " more bytes, got " + std::to_string(stream.gcount()));
    }
  });
}

void stream_safetensors(const std::map<std::string, FileTensor>& tensors,
                        const std::map<std::string, std::string>& metadata, const ByteSink& sink) {
  std::vector<std::pair<std::string, const FileTensor*>> order;
  order.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) order.emplace_back(name, &tensor);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.second->dtype > b.second->dtype; });
  const std::string json = header_json(order, metadata);
  if (json.size() > kMaxSafetensorsHeader)
    throw SafetensorsError("safetensors: the header would be larger than 100000000 bytes");
  const uint64_t length = json.size();
  sink(std::as_bytes(std::span(&length, 1)));
  sink(std::as_bytes(std::span(json)));
  for (const auto& [name, tensor] : order) sink(tensor->bytes);
}

std::vector<std::byte> serialise_safetensors(const SafetensorsFile& file) {
  std::vector<std::byte> result;
  stream_safetensors(file.tensors, file.metadata, [&](std::span<const std::byte> piece) {
    result.insert(result.end(), piece.begin(), piece.end());
  });
  return result;
}

void write_safetensors(const std::filesystem::path& path, const SafetensorsFile& file) {
  try {
    write_file(path, [&](const ByteSink& sink) { stream_safetensors(file.tensors, file.metadata, sink); });
  } catch (const SafetensorsError&) {
    throw;
  } catch (const std::runtime_error& error) {  // of the file system
    throw SafetensorsError(error.what());
  }
}

}  // namespace gradlibra
