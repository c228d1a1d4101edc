// SPDX-License-Identifier: MIT
// Reading and writing safetensors files (github.com/huggingface/safetensors): named arrays of plain bytes behind a JSON
// header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/files.h"

namespace gradlibra {

// What is wrong with a file, or with what should become one; the message names the file and the tensor.
struct SafetensorsError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// In the order of the format's reference program, which sorts tensors by it (last first) when writing.
enum class FileDType : uint8_t { boolean, u8, i8, f8_e5m2, f8_e4m3, i16, u16, f16, bf16, i32, u32, f32, f64, i64, u64 };

[[nodiscard]] std::string_view to_string(FileDType dtype);  // as in files: "F32"
[[nodiscard]] size_t bytes_per_value(FileDType dtype);

struct FileTensor {
  FileDType dtype = FileDType::f32;
  std::vector<int64_t> shape;    // empty: a scalar
  std::vector<std::byte> bytes;  // row-major, packed, little-endian

  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(bytes.size() / bytes_per_value(dtype)); }
  // Any of F32, F16, BF16, F64 as float (F64 is rounded to nearest); another dtype is a SafetensorsError.
  [[nodiscard]] std::vector<float> to_floats() const;
  // The stored values; SafetensorsError unless T is exactly the stored type. T: float, double, int64_t, int32_t,
  // uint8_t.
  template <class T>
  [[nodiscard]] std::vector<T> values() const;
  friend bool operator==(const FileTensor&, const FileTensor&) = default;
};

// values.size() must be the product of `shape`. T: float, double, int64_t, int32_t, uint8_t.
template <class T>
[[nodiscard]] FileTensor make_file_tensor(std::span<const T> values, std::vector<int64_t> shape);
template <class T>
[[nodiscard]] FileTensor make_file_tensor(const std::vector<T>& values, std::vector<int64_t> shape) {
  return make_file_tensor(std::span<const T>(values), std::move(shape));
}
template <class T>
[[nodiscard]] FileTensor make_file_scalar(T value) {
  return make_file_tensor(std::span<const T>(&value, 1), {});
}

// Whether no number of it is infinite or none; integers never are.
[[nodiscard]] bool all_finite(const FileTensor& tensor);

struct SafetensorsFile {
  std::map<std::string, FileTensor> tensors;
  std::map<std::string, std::string> metadata;  // the header's "__metadata__"
  friend bool operator==(const SafetensorsFile&, const SafetensorsFile&) = default;
};

// The whole file. Every length, offset, shape and name is checked before memory is taken for it, so a damaged or
// hostile file is a SafetensorsError and costs no more memory than its own size.
[[nodiscard]] SafetensorsFile read_safetensors(const std::filesystem::path& path);
// The same from memory; `name` stands for the file in messages.
[[nodiscard]] SafetensorsFile parse_safetensors(std::span<const std::byte> bytes, std::string_view name);

// Plain writing: over an existing file only when complete, but not flushed to the disk (checkpoint_store.h does that).
void write_safetensors(const std::filesystem::path& path, const SafetensorsFile& file);
[[nodiscard]] std::vector<std::byte> serialise_safetensors(const SafetensorsFile& file);

void stream_safetensors(const std::map<std::string, FileTensor>& tensors,
                        const std::map<std::string, std::string>& metadata, const ByteSink& sink);

}  // namespace gradlibra
