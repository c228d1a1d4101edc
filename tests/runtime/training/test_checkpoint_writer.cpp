// SPDX-License-Identifier: MIT
// Writing beside the training: who waits for whom on a slow disk, and what becomes of failures.
#include "runtime/training/checkpoint_writer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <semaphore>
#include <thread>

#include "tests/files.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

SafetensorsFile contents(float value) {
  SafetensorsFile file;
  file.tensors["weight"] = make_file_tensor(std::vector<float>(100, value), {10, 10});
  return file;
}

// A disk that flushes nothing until it is told to.
struct StuckDisk {
  [[nodiscard]] FileCalls calls() {
    FileCalls calls;
    calls.fsync = [this](int) {
      reached.release();
      go_on.acquire();
      go_on.release();
      return 0;
    };
    return calls;
  }
  std::counting_semaphore<> reached{0}, go_on{0};
};

TEST(CheckpointWriter, TheCallerGoesOnWhileTheDiskIsStuck) {
  TemporaryFolder folder;
  StuckDisk disk;
  CheckpointStore store(folder / "checkpoints", 3, disk.calls());
  CheckpointWriter writer;
  EXPECT_FALSE(writer.poll().has_value());
  EXPECT_FALSE(writer.wait().has_value());
  writer.start(store, contents(1), 7);
  disk.reached.acquire();  // the write is under way, and this thread is here
  EXPECT_FALSE(writer.poll().has_value());
  EXPECT_FALSE(CheckpointStore(folder / "checkpoints").load_latest().has_value());
  disk.go_on.release();
  const auto written = writer.wait();
  ASSERT_TRUE(written.has_value());
  EXPECT_EQ(written->store, &store);
  EXPECT_EQ(written->step, 7);
  EXPECT_TRUE(written->saved.ok()) << written->saved.error;
  EXPECT_FALSE(writer.wait().has_value());  // told once
  const auto loaded = CheckpointStore(folder / "checkpoints").load_latest();
  EXPECT_EQ(loaded->step, 7);
  EXPECT_EQ(loaded->file, contents(1));
  writer.start(store, contents(2), 8);
  std::optional<CheckpointWriter::Written> polled;
  while (!polled) polled = writer.poll();
  EXPECT_EQ(polled->step, 8);
}

TEST(CheckpointWriter, TheDestructorWaits) {
  TemporaryFolder folder;
  StuckDisk disk;
  CheckpointStore store(folder / "checkpoints", 3, disk.calls());
  std::jthread later;
  {
    CheckpointWriter writer;
    writer.start(store, contents(1), 7);
    later = std::jthread([&] {
      disk.reached.acquire();
      disk.go_on.release();
    });
  }
  EXPECT_EQ(CheckpointStore(folder / "checkpoints").load_latest()->step, 7);
}

TEST(CheckpointWriter, FailuresAreResultsAndBadContentsAreThrown) {
  TemporaryFolder folder;
  FileCalls calls;
  std::atomic<bool> full{true};
  calls.write = [&](int file, const void* bytes, size_t count) -> ssize_t {
    return full ? (errno = ENOSPC, -1) : ::write(file, bytes, count);
  };
  CheckpointStore store(folder / "checkpoints", 3, calls);
  CheckpointWriter writer;
  writer.start(store, contents(1), 1);
  auto written = writer.wait();
  EXPECT_HAS(written->saved.error, "No space left");
  full = false;
  writer.start(store, contents(2), 2);
  EXPECT_TRUE(writer.wait()->saved.ok());
  SafetensorsFile bad = contents(3);
  bad.tensors["weight"].shape = {7};
  writer.start(store, bad, 3);
  EXPECT_THROW((void)writer.wait(), SafetensorsError);
  writer.start(store, contents(4), 4);
  EXPECT_TRUE(writer.wait()->saved.ok());
  EXPECT_EQ(CheckpointStore(folder / "checkpoints").load_latest()->step, 4);
}

}  // namespace
}  // namespace gradlibra
