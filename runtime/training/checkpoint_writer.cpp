// SPDX-License-Identifier: MIT
#include "runtime/training/checkpoint_writer.h"

#include <cassert>
#include <chrono>
#include <memory>
#include <system_error>
#include <utility>

namespace gradlibra {

CheckpointWriter::~CheckpointWriter() {
  if (write_.valid()) write_.wait();
}

void CheckpointWriter::start(CheckpointStore& store, SafetensorsFile file, int64_t step) {
  assert(!write_.valid());
  const auto write = [&store, step, copy = std::make_shared<SafetensorsFile>(std::move(file))] {
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
