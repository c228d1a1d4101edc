// SPDX-License-Identifier: MIT
#include "engine/event_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "runtime/distributed/launch.h"

namespace gradlibra {

namespace {

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);  // the polynomial, reflected
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = make_table();

template <class T>
std::string little_endian(T value) {
  const auto bits = std::bit_cast<std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>>(value);
  std::string bytes;
  for (size_t i = 0; i < sizeof(T); ++i) bytes += static_cast<char>(bits >> (8 * i) & 0xff);
  return bytes;
}

// Fields of a protocol buffer: a key (number << 3 | wire type), then the value.
enum Wire { kVarint = 0, kEightBytes = 1, kBytes = 2, kFourBytes = 5 };

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7f) | 0x80);
  return bytes + static_cast<char>(value);
}
std::string key(int field, Wire wire) { return varint(static_cast<uint64_t>(field) << 3 | wire); }
std::string number_field(int field, int64_t value) {
  return key(field, kVarint) + varint(static_cast<uint64_t>(value));
}
std::string double_field(int field, double value) { return key(field, kEightBytes) + little_endian(value); }
std::string float_field(int field, double value) {
  return key(field, kFourBytes) + little_endian(static_cast<float>(value));
}
std::string bytes_field(int field, const std::string& bytes) {
  return key(field, kBytes) + varint(bytes.size()) + bytes;
}

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Readers take a folder's files in the order of their names.
std::filesystem::path new_name(const std::filesystem::path& folder) {
  constexpr const char* kPrefix = "events.out.tfevents.";
  auto seconds = static_cast<int64_t>(seconds_since_1970());
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kPrefix))
      seconds = std::max<int64_t>(seconds, std::atoll(name.c_str() + std::strlen(kPrefix)) + 1);
  }
  return folder / fmt::format("{}{:010}.{}.{}", kPrefix, seconds, host_name(), ::getpid());
}

}  // namespace

uint32_t crc32c(const std::string& bytes) {
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) crc = crc >> 8 ^ kTable[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  return ~crc;
}

uint32_t masked_crc32c(const std::string& bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8u; }

EventFile::EventFile(const std::filesystem::path& folder, int64_t step)
    : path_(new_name(folder)), file_(std::fopen(path_.c_str(), "wb"), &std::fclose) {
  if (!file_) throw std::runtime_error(path_.string() + ": cannot be written: " + std::strerror(errno));
  append(double_field(1, seconds_since_1970()) + bytes_field(3, "brain.Event:2"));
  // START says that events of this step and later ones, met before, are of a run that was broken off.
  append(double_field(1, seconds_since_1970()) + number_field(2, step + 1) + bytes_field(7, number_field(1, 1)));
}

void EventFile::write(int64_t step, const std::vector<std::pair<std::string, double>>& values) {
  std::string summary;
  for (const auto& [tag, value] : values) summary += bytes_field(1, bytes_field(1, tag) + float_field(2, value));
  append(double_field(1, seconds_since_1970()) + number_field(2, step) + bytes_field(5, summary));
}

void EventFile::append(const std::string& event) {
  const std::string length = little_endian(static_cast<uint64_t>(event.size()));
  const std::string record =
      length + little_endian(masked_crc32c(length)) + event + little_endian(masked_crc32c(event));
  std::fwrite(record.data(), 1, record.size(), file_.get());
  std::fflush(file_.get());
}

}  // namespace gradlibra
