// SPDX-License-Identifier: MIT
// Checkpoints that are written on a thread of their own, from a copy of the values, while training goes on.
#pragma once

#include <cstdint>
#include <future>
#include <optional>

#include "runtime/training/checkpoint_store.h"

namespace gradlibra {

// One write at a time. The next one waits for it and does not take its place: every checkpoint that was asked for is
// written, in order, and there is one copy of the values in memory at most. The destructor waits, too: no exception
// tears a write. Only the end of the process does, and that leaves the file before it (checkpoint_store.h).
class CheckpointWriter {
 public:
  CheckpointWriter() = default;
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  struct Written {
    const CheckpointStore* store = nullptr;
    int64_t step = 0;
    CheckpointStore::Saved saved;
  };
  // Begins to save `file` in `store`, which must live until that is done; nobody else may write there meanwhile. No
  // write may be under way: wait() comes first, and tells what came of it. Where the system gives no thread, it is
  // saved on return.
  void start(CheckpointStore& store, SafetensorsFile file, int64_t step);
  // What came of the write that was started, to be told once; nothing if it is under way or none was started. Throws
  // what CheckpointStore::save() threw.
  [[nodiscard]] std::optional<Written> poll();
  // The same, but waits for it.
  [[nodiscard]] std::optional<Written> wait();

 private:
  std::future<Written> write_;
};

// For a process that is about to end whatever it does: waits until no checkpoint of this process is being written, but
// not longer than that. Any thread.
void await_checkpoints(double seconds);

}  // namespace gradlibra
