// SPDX-License-Identifier: MIT
#include "runtime/device/memory_pool.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace gradlibra {

MemoryPool::~MemoryPool() {
  assert(in_use_ == 0 && "a tensor outlives its pool");
  trim();
}

// Small blocks share a 256-byte raster; large ones one sixteenth of their size, so that nearly equal requests meet.
size_t MemoryPool::rounded(size_t bytes) {
  // No machine has so much, and a negative size ends here too; twice as much would overflow below.
  if (bytes > SIZE_MAX / 64) throw std::length_error("a tensor of " + std::to_string(bytes) + " bytes");
  size_t step = 256;
  while (step * 16 < bytes) step *= 2;
  return (std::max<size_t>(bytes, 1) + step - 1) / step * step;
}

void* MemoryPool::take_from(FreeLists& lists, size_t size) {
  std::vector<void*>& blocks = lists[size];
  if (blocks.empty()) return nullptr;
  void* block = blocks.back();
  blocks.pop_back();
  return block;
}

void* MemoryPool::take(size_t bytes) {
  const size_t size = rounded(bytes);
  void* block = branch_ == kNoBranch ? nullptr : take_from(branch_free_[branch_], size);
  if (block == nullptr) block = take_from(free_, size);
  if (block == nullptr) {
    block = device_.allocate(size);
    reserved_ += static_cast<int64_t>(size);
  }
  if (branch_ != kNoBranch) branch_of_[block] = branch_;
  in_use_ += static_cast<int64_t>(size);
  peak_ = std::max(peak_, in_use_);
  if (recording_) recorded_[block] = size;
  return block;
}

void MemoryPool::start_recording() {
  if (recording_) throw std::logic_error("MemoryPool: recordings do not nest");
  recording_ = true;
}

std::vector<MemoryPool::Block> MemoryPool::stop_recording() {
  recording_ = false;
  std::vector<Block> blocks;
  for (auto& [size, unused] : free_)
    std::erase_if(unused, [&, size = size](void* block) {
      const bool kept_back = recorded_.contains(block);
      if (kept_back) blocks.push_back({block, size});
      return kept_back;
    });
  const bool all = blocks.size() == recorded_.size();
  recorded_.clear();
  if (all) return blocks;
  restore(blocks);
  throw std::logic_error("MemoryPool: a tensor that was made while work was recorded outlives the recording");
}

void MemoryPool::restore(const std::vector<Block>& blocks) {
  for (const Block& block : blocks) free_[block.size].push_back(block.memory);
}

void MemoryPool::give(void* block, size_t bytes) noexcept {
  const size_t size = rounded(bytes);
  int owner = kNoBranch;
  if (const auto found = branch_of_.find(block); found != branch_of_.end()) {
    owner = found->second;
    branch_of_.erase(found);
  }
  if (branch_ == kNoBranch)
    free_[size].push_back(block);
  else
    branch_free_[owner == branch_ ? branch_ : kNoBranch][size].push_back(block);
  in_use_ -= static_cast<int64_t>(size);
}

void MemoryPool::fork() {
  if (branch_ != kNoBranch) throw std::logic_error("MemoryPool: forks do not nest");
  branch_ = 0;
}

void MemoryPool::join() {
  branch_ = kNoBranch;
  for (auto& [branch, lists] : branch_free_)
    for (auto& [size, blocks] : lists) {
      free_[size].insert(free_[size].end(), blocks.begin(), blocks.end());
      blocks.clear();
    }
}

void MemoryPool::trim() {
  for (auto& [size, blocks] : free_) {
    for (void* block : blocks) {
      device_.release(block, size);
      reserved_ -= static_cast<int64_t>(size);
    }
    blocks.clear();
  }
}

}  // namespace gradlibra
