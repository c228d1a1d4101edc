// SPDX-License-Identifier: MIT
// The checkpoint protocol: durable replacement of files, checksums, and falling back to an older file.
#include "runtime/training/checkpoint_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>

namespace gradlibra {
namespace {

constexpr std::string_view kTemporary = "ckpt.tmp.";
constexpr std::string_view kOwnKeys = "checkpoint.";  // metadata keys of this file
constexpr std::string_view kStepKey = "checkpoint.step";
constexpr std::string_view kRestKey = "checkpoint.checksum";
constexpr std::string_view kTensorKey = "checkpoint.checksum.";

// 64-bit checksum against damage, not against malice: four interleaved lanes of multiply-and-rotate. Every step is
// invertible in its lane, so any change confined to one 8-byte word is always found; the rotation keeps top-bit changes
// from cancelling.
class Checksum {
 public:
  void add(std::span<const std::byte> bytes) {
    add_word(bytes.size());  // lengths are part of it: pieces cannot move into one another
    size_t i = 0;
    for (; i + 32 <= bytes.size(); i += 32) {
      for (size_t lane = 0; lane < 4; ++lane) step(lane_[lane], load(bytes.data() + i + 8 * lane, 8));
    }
    for (; i < bytes.size(); i += 8) add_word(load(bytes.data() + i, std::min<size_t>(8, bytes.size() - i)));
  }
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  void add_word(uint64_t word) { step(lane_[0], word); }

  [[nodiscard]] std::string hex() const {
    uint64_t result = 0;
    for (const uint64_t lane : lane_) step(result, lane);
    char text[17];
    std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(result ^ (result >> 32)));
    return text;
  }

 private:
  static uint64_t load(const std::byte* from, size_t count) {
    uint64_t word = 0;
    std::memcpy(&word, from, count);
    return word;
  }
  static void step(uint64_t& lane, uint64_t word) {
    lane = std::rotl(lane ^ word, 29) * 0x9E3779B97F4A7C15u + 0x632BE59BD9B4E019u;
  }

  uint64_t lane_[4] = {1, 2, 3, 4};
};

std::string checksum(const std::string& name, const FileTensor& tensor) {
  Checksum sum;
  sum.add(name);
  sum.add(to_string(tensor.dtype));
  for (const int64_t extent : tensor.shape) sum.add_word(static_cast<uint64_t>(extent));
  sum.add(tensor.bytes);
  return sum.hex();
}

// Over all metadata but itself; the tensors' checksums are among it.
std::string checksum(const std::map<std::string, std::string>& metadata) {
  Checksum sum;
  for (const auto& [key, value] : metadata) {
    if (key == kRestKey) continue;
    sum.add(key);
    sum.add(value);
  }
  return sum.hex();
}

std::string file_name(int64_t step) { return "checkpoint_" + std::to_string(step) + ".safetensors"; }

// The step of checkpoint_<step>.safetensors; nothing for any other name.
std::optional<int64_t> step_of(const std::string& name) {
  constexpr std::string_view before = "checkpoint_", behind = ".safetensors";
  if (name.size() <= before.size() + behind.size() || !name.starts_with(before) || !name.ends_with(behind))
    return std::nullopt;
  int64_t step = -1;
  const char* first = name.data() + before.size();
  const char* last = name.data() + name.size() - behind.size();
  const auto [end, error] = std::from_chars(first, last, step);
  if (error != std::errc() || end != last || step < 0 || file_name(step) != name) return std::nullopt;
  return step;
}

std::vector<int64_t> steps_in(const std::filesystem::path& folder) {
  std::vector<int64_t> steps;
  std::error_code status;
  for (std::filesystem::directory_iterator entry(folder, status), end; !status && entry != end;
       entry.increment(status)) {
    if (const auto step = step_of(entry->path().filename().string())) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

std::string megabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

}  // namespace

CheckpointStore::CheckpointStore(std::filesystem::path folder, int keep, FileCalls calls)
    : folder_(std::move(folder)), keep_(keep <= 0 ? std::numeric_limits<int>::max() : keep), calls_(std::move(calls)) {}

// Under a name by which remove_leftovers() knows it. An error sentence if the old file of that name (or none) is still
// there, or the new one may not last.
std::string CheckpointStore::replace_file(const std::string& name,
                                          const std::function<void(const ByteSink&)>& produce) const {
  const std::filesystem::path temporary = folder_ / (std::string(kTemporary) + std::to_string(getpid()));
  try {
    write_file(folder_ / name, produce, {.durable = true, .temporary = temporary, .calls = &calls_});
  } catch (const WriteError& error) {
    return error.what();
  }
  return "";
}

CheckpointStore::Saved CheckpointStore::save(const SafetensorsFile& file, int64_t step) {
  if (step < 0) throw SafetensorsError("a checkpoint's step cannot be negative");
  std::map<std::string, std::string> metadata = file.metadata;
  for (const auto& [key, value] : metadata) {
    if (key.starts_with(kOwnKeys)) throw SafetensorsError("the metadata key '" + key + "' is reserved for checkpoints");
  }
  metadata[std::string(kStepKey)] = std::to_string(step);
  int64_t bytes = 1 << 16;
  for (const auto& [name, tensor] : file.tensors) {
    metadata[std::string(kTensorKey) + name] = checksum(name, tensor);
    bytes += static_cast<int64_t>(tensor.bytes.size() + 2 * name.size()) + 256;
  }
  metadata[std::string(kRestKey)] = checksum(metadata);

  Saved saved;
  saved.path = folder_ / file_name(step);
  std::error_code status;
  std::filesystem::create_directories(folder_, status);
  if (status) {
    saved.error = "cannot create the folder " + folder_.string() + ": " + status.message();
    return saved;
  }
  remove_leftovers();
  saved.error = space_problem(bytes);
  if (!saved.ok()) return saved;
  saved.error =
      replace_file(file_name(step), [&](const ByteSink& sink) { stream_safetensors(file.tensors, metadata, sink); });
  if (!saved.ok()) return saved;
  const std::string latest = file_name(step) + "\n";
  saved.error = replace_file("latest", [&](const ByteSink& sink) { sink(std::as_bytes(std::span(latest))); });
  if (saved.ok()) remove_old(step);
  return saved;
}

std::string CheckpointStore::space_problem(int64_t bytes) const {
  std::filesystem::path there = folder_;  // the nearest folder that exists already
  std::error_code ignored;
  while (!std::filesystem::exists(there, ignored) && there.has_parent_path() && there != there.parent_path())
    there = there.parent_path();
  const int64_t free = calls_.free_bytes(there.empty() ? "." : there);
  if (free < 0 || free >= bytes) return "";
  return "not enough space for a checkpoint in " + folder_.string() + ": it needs " + megabytes(bytes) + ", " +
         megabytes(free) + " are free";
}

// Temporary files of processes that are gone: nobody holds their lock.
void CheckpointStore::remove_leftovers() const {
  std::error_code status;
  std::vector<std::filesystem::path> leftovers;
  for (std::filesystem::directory_iterator entry(folder_, status), end; !status && entry != end;
       entry.increment(status)) {
    if (entry->path().filename().string().starts_with(kTemporary)) leftovers.push_back(entry->path());
  }
  for (const std::filesystem::path& path : leftovers) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0) continue;
    if (::flock(file, LOCK_EX | LOCK_NB) == 0) (void)::unlink(path.c_str());
    (void)::close(file);
  }
}

// Files of later steps are not this run's past; they stay.
void CheckpointStore::remove_old(int64_t step) const {
  int kept = 0;
  for (const int64_t other : steps_in(folder_)) {
    if (other <= step && ++kept > keep_) (void)::unlink((folder_ / file_name(other)).c_str());
  }
}

CheckpointStore::Loaded CheckpointStore::load(const std::filesystem::path& path) {
  Loaded loaded;
  loaded.path = path;
  loaded.file = read_safetensors(path);
  std::map<std::string, std::string>& metadata = loaded.file.metadata;
  const auto refuse = [&](const std::string& message) { throw SafetensorsError(path.string() + ": " + message); };
  const auto value = [&](std::string_view key) -> const std::string& {
    const auto found = metadata.find(std::string(key));
    if (found == metadata.end())
      refuse("no '" + std::string(key) + "' in its metadata; it is not a checkpoint of this program");
    return found->second;
  };
  if (value(kRestKey) != checksum(metadata)) refuse("damaged: the metadata's checksum does not fit");
  size_t sums = 0;
  for (const auto& [key, text] : metadata) sums += key.starts_with(kTensorKey);
  if (sums != loaded.file.tensors.size()) {
    refuse("damaged: " + std::to_string(loaded.file.tensors.size()) + " tensors, but " + std::to_string(sums) +
           " checksums");
  }
  for (const auto& [name, tensor] : loaded.file.tensors) {
    if (value(std::string(kTensorKey) + name) != checksum(name, tensor))
      refuse("damaged: the checksum of tensor '" + name + "' does not fit");
  }
  const auto step = step_of("checkpoint_" + value(kStepKey) + ".safetensors");
  if (!step) refuse("damaged: the step '" + value(kStepKey) + "'");
  loaded.step = *step;
  std::erase_if(metadata, [](const auto& item) { return item.first.starts_with(kOwnKeys); });
  return loaded;
}

std::optional<CheckpointStore::Loaded> CheckpointStore::load_latest() const {
  std::vector<std::string> problems;
  std::vector<std::string> candidates;
  const std::vector<int64_t> steps = steps_in(folder_);  // newest first
  for (const int64_t step : steps) candidates.push_back(file_name(step));

  const std::filesystem::path latest = folder_ / "latest";
  std::error_code ignored;
  if (std::filesystem::exists(latest, ignored)) {
    std::string name(256, '\0');
    std::ifstream stream(latest, std::ios::binary);
    stream.read(name.data(), static_cast<std::streamsize>(name.size()));
    name.resize(static_cast<size_t>(std::max<std::streamsize>(stream.gcount(), 0)));
    while (name.ends_with('\n')) name.pop_back();
    const auto found = std::find(candidates.begin(), candidates.end(), name);
    if (found != candidates.end()) {
      std::rotate(candidates.begin(), found, found + 1);
    } else if (step_of(name)) {
      problems.push_back(latest.string() + ": names " + name + ", which does not exist");
    } else {
      problems.push_back(latest.string() + ": does not name a checkpoint");
    }
  } else if (!candidates.empty()) {
    problems.push_back(latest.string() + ": missing; taking the newest checkpoint");
  }
  for (const std::string& name : candidates) {
    try {
      Loaded loaded = load(folder_ / name);
      loaded.problems = std::move(problems);
      return loaded;
    } catch (const SafetensorsError& error) {
      problems.emplace_back(error.what());
    }
  }
  if (problems.empty()) return std::nullopt;
  std::string message = "no usable checkpoint in " + folder_.string();
  for (const std::string& problem : problems) message += "\n  " + problem;
  throw std::runtime_error(message);
}

}  // namespace gradlibra
