// SPDX-License-Identifier: MIT
// The checkpoint protocol: durable replacement of files, and falling back to an older file.
#include "runtime/training/checkpoint_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <limits>

#include "runtime/training/checkpoint_checksums.h"

namespace gradlibra {
namespace {

constexpr std::string_view kTemporary = "ckpt.tmp.";
constexpr std::string_view kStepKey = "checkpoint.step";

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
    if (key.starts_with(kCheckpointKeys))
      throw SafetensorsError("the metadata key '" + key + "' is reserved for checkpoints");
  }
  metadata[std::string(kStepKey)] = std::to_string(step);
  int64_t bytes = 1 << 16;
  for (const auto& [name, tensor] : file.tensors) {
    bytes += static_cast<int64_t>(tensor.bytes.size() + 2 * name.size()) + 256;
  }
  add_checksums(file.tensors, metadata);

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
  return verify(read_safetensors(path), path);
}

CheckpointStore::Loaded CheckpointStore::verify(SafetensorsFile file, const std::filesystem::path& path) {
  Loaded loaded;
  loaded.path = path;
  loaded.file = std::move(file);
  std::map<std::string, std::string>& metadata = loaded.file.metadata;
  const auto refuse = [&](const std::string& message) { throw SafetensorsError(path.string() + ": " + message); };
  if (const std::string problem = checksum_problem(loaded.file); !problem.empty()) refuse(problem);
  const std::string& stored = metadata[std::string(kStepKey)];
  const auto step = step_of("checkpoint_" + stored + ".safetensors");
  if (!step) refuse("damaged: the step '" + stored + "'");
  loaded.step = *step;
  std::erase_if(metadata, [](const auto& item) { return item.first.starts_with(kCheckpointKeys); });
  return loaded;
}

std::optional<CheckpointStore::Loaded> CheckpointStore::load_latest() const {
  std::vector<std::string> problems;
  std::vector<std::string> candidates;
  const std::vector<int64_t> steps = steps_in(folder_);  // newest first
  candidates.reserve(steps.size());
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
