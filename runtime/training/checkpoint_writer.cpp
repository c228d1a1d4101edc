// SPDX-License-Identifier: MIT
#include "runtime/training/checkpoint_writer.h"

#include <atomic>
#include <cassert>
#include <chrono>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

namespace gradlibra {

namespace {

std::atomic<int> under_way{0};

struct UnderWay {
  UnderWay() { under_way.fetch_add(1); }
  ~UnderWay() { under_way.fetch_sub(1); }
  UnderWay(const UnderWay&) = delete;
  UnderWay& operator=(const UnderWay&) = delete;
};

}  // namespace

void await_checkpoints(double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (under_way.load() > 0 && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

CheckpointWriter::~CheckpointWriter() {
  if (write_.valid()) write_.wait();
}

void CheckpointWriter::start(CheckpointStore& store, SafetensorsFile file, int64_t step) {
  assert(!write_.valid());
  const auto write = [&store, step, copy = std::make_shared<SafetensorsFile>(std::move(file))] {
    const UnderWay counted;
    Written written{&store, step, store.save(*copy, step)};
    *copy = {};  // the memory is free as soon as the file is written
    return written;
  };
  try {
    write_ = std::async(std::launch::async, write);
  } catch (const std::system_error&) {
    std::packaged_task<Written()> here(write);
    write_ = here.get_future();
    here();
  }
}

std::optional<CheckpointWriter::Written> CheckpointWriter::poll() {
  if (!write_.valid() || write_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return std::nullopt;
  return write_.get();
}

std::optional<CheckpointWriter::Written> CheckpointWriter::wait() {
  if (!write_.valid()) return std::nullopt;
  return write_.get();
}

}  // namespace gradlibra
