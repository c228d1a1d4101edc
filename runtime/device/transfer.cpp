// SPDX-License-Identifier: MIT
// The host's side of transfer.h: copies, in the order of the calls.
#include "runtime/device/transfer.h"

#include <cstring>
#include <deque>
#include <stdexcept>

#include "runtime/device/device.h"

namespace gradlibra {

namespace {

class HostPrefetch final : public Prefetch {
 public:
  void stage(std::span<const Item> items) override {
    items_.assign(items.begin(), items.end());
    blocks_.resize(items.size());
    for (size_t i = 0; i < items.size(); ++i) {
      const auto* bytes = static_cast<const std::byte*>(items[i].host);
      blocks_[i].assign(bytes, bytes + items[i].to->bytes());
    }
  }
  void deliver() override {
    for (size_t i = 0; i < items_.size(); ++i)
      if (!blocks_[i].empty()) std::memcpy(items_[i].to->data(), blocks_[i].data(), blocks_[i].size());
    items_.clear();
  }

 private:
  std::vector<Item> items_;
  std::vector<std::vector<std::byte>> blocks_;
};

class HostReadback final : public Readback {
 public:
  void start(const Tensor& doubles) override {
    const auto values = doubles.view<double>().span();
    pending_.emplace_back(values.begin(), values.end());
  }
  std::vector<double> wait() override {
    if (pending_.empty()) throw std::logic_error("Readback: nothing was started");
    std::vector<double> values = std::move(pending_.front());
    pending_.pop_front();
    return values;
  }

 private:
  std::deque<std::vector<double>> pending_;
};

}  // namespace

std::unique_ptr<Prefetch> HostDevice::make_prefetch() { return std::make_unique<HostPrefetch>(); }
std::unique_ptr<Readback> HostDevice::make_readback() { return std::make_unique<HostReadback>(); }
std::unique_ptr<CapturedWork> HostDevice::capture(const std::function<void()>&) { return nullptr; }

}  // namespace gradlibra
