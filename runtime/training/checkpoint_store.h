// SPDX-License-Identifier: MIT
// Checkpoints that survive a crash, a full disk and a power cut: a folder of checkpoint_<step>.safetensors and a file
// `latest` naming one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/safetensors.h"

namespace gradlibra {

// One folder, written by one process at a time: a checkpoint durably (runtime/base/files.h) by way of `ckpt.tmp.<pid>`,
// then `latest` in the same way, only then are older files deleted. Checksums lie in the file's metadata (keys
// "checkpoint.*", checkpoint_checksums.h; plain safetensors readers need not know them).
class CheckpointStore {
 public:
  // Keeps this many; 0 or less: all.
  explicit CheckpointStore(std::filesystem::path folder, int keep = 3, FileCalls calls = {});

  struct Saved {
    std::filesystem::path path;
    std::string error;  // empty: saved. Otherwise a sentence for the log; what was saved before is untouched
    [[nodiscard]] bool ok() const { return error.empty(); }
  };
  // Saves and then keeps the `keep` newest of the files up to this step. A full disk, a quota, any failure of the file
  // system is a result and no exception, so that training can go on. Contents that no file can hold (SafetensorsError)
  // are thrown.
  [[nodiscard]] Saved save(const SafetensorsFile& file, int64_t step);

  // Asks ahead: empty if `bytes` more fit into the folder's file system, otherwise a sentence.
  [[nodiscard]] std::string space_problem(int64_t bytes) const;

  struct Loaded {
    SafetensorsFile file;
    int64_t step = 0;
    std::filesystem::path path;
    std::vector<std::string> problems;  // what was wrong with newer files, to be shown: empty in normal operation
  };
  // The file that `latest` names; if it is damaged or missing, the newest good one. Nothing if there is no checkpoint
  // at all; std::runtime_error with every reason if there are some and none is good.
  [[nodiscard]] std::optional<Loaded> load_latest() const;
  // One file, with lengths and checksums verified; std::runtime_error otherwise.
  [[nodiscard]] static Loaded load(const std::filesystem::path& path);
  // The same of a file that has been read from `path`.
  [[nodiscard]] static Loaded verify(SafetensorsFile file, const std::filesystem::path& path);

 private:
  std::string replace_file(const std::string& name, const std::function<void(const ByteSink&)>& produce) const;
  void remove_leftovers() const;
  void remove_old(int64_t step) const;

  std::filesystem::path folder_;
  int keep_;
  FileCalls calls_;
};

}  // namespace gradlibra
