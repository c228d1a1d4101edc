// SPDX-License-Identifier: MIT
#include "runtime/distributed/nccl_communicator.h"

#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>

#include "runtime/device/cuda_handles.h"
#include "runtime/distributed/launch.h"
#include "runtime/distributed/nccl_library.h"

namespace gradlibra {

namespace {

using Clock = std::chrono::steady_clock;

// Before what computes: the sooner a sum gets a place on the device, the sooner the network has work.
Stream make_urgent_stream() {
  int least = 0, greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest));
  return Stream(stream);
}

// As NCCL 2.19 knew it: newer ones go by the size that they are told.
ncclConfig_t oldest_config() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.size = 48;
  static_assert(offsetof(ncclConfig_t, splitShare) == 40);  // the last that it had
  config.version = kOldestNccl;
  return config;
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Context& context, HostGroup& hosts, double timeout_seconds)
      : context_(context), hosts_(hosts), timeout_(timeout_seconds) {
    const ncclUniqueId id = meet();
    ncclConfig_t config = oldest_config();
    config.blocking = 0;  // a rank that does not come would be waited for without an end
    const std::lock_guard lock(mutex_);
    complete(nccl_->ncclCommInitRankConfig(&comm_, world_size(), id, rank(), &config), "ncclCommInitRankConfig");
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;
  ~NcclCommunicator() override {
    {
      const std::lock_guard lock(mutex_);
      abort();
    }
    if (aborting_.joinable()) aborting_.join();
    for (const Buffer& buffer : buffers_) nccl_->ncclMemFree(buffer.memory);
  }

  [[nodiscard]] int rank() const override { return hosts_.rank(); }
  [[nodiscard]] int world_size() const override { return hosts_.world_size(); }
  [[nodiscard]] std::string library() const override {
    return fmt::format("NCCL {}, hosts by {}", nccl_version(version_), hosts_.library());
  }

  void sum(View<float> values) override {
    start_sum(values.data(), values.size(), ncclFloat32);
    join_sums();
  }
  void sum(View<double> values) override {
    start_sum(values.data(), values.size(), ncclFloat64);
    join_sums();
  }
  void begin_sum(View<float> values) override { start_sum(values.data(), values.size(), ncclFloat32); }

  void join_sums() override {
    if (!begun_) return;
    begun_ = false;
    check(cudaEventRecord(join_.get(), stream_.get()));
    check(cudaStreamWaitEvent(stream_of_context(), join_.get(), 0));
  }

  void broadcast(View<float> values, int root) override {
    if (values.size() == 0) return;
    const std::lock_guard lock(mutex_);
    fork();
    complete(nccl_->ncclBroadcast(values.data(), values.data(), static_cast<size_t>(values.size()), ncclFloat32, root,
                                  comm_, stream_.get()),
             "ncclBroadcast");
    join_sums();
  }

  View<float> memory_for_sums(int64_t size) override {
    if (size == 0) return {nullptr, {0}};
    Buffer buffer;
    const size_t bytes = static_cast<size_t>(size) * sizeof(float);
    if (nccl_->ncclMemAlloc(&buffer.memory, bytes) != ncclSuccess) buffer.memory = nullptr;
    if (buffer.memory != nullptr) {
      const std::lock_guard lock(mutex_);
      require_alive();
      if (nccl_->ncclCommRegister(comm_, buffer.memory, bytes, &buffer.handle) != ncclSuccess) buffer.handle = nullptr;
    }
    (void)cudaGetLastError();  // what this device cannot do is no error
    // A sum of memory that some ranks have registered and others not has no defined result.
    for (const std::string& registered : hosts_.gather(buffer.handle == nullptr ? "no" : "yes")) {
      if (registered == "yes") continue;
      release(buffer);
      if (buffer.memory != nullptr) nccl_->ncclMemFree(buffer.memory);
      return {nullptr, {0}};
    }
    buffers_.push_back(buffer);
    return {static_cast<float*>(buffer.memory), {size}};
  }

  // Between hosts, where this one waits anyway: a good moment to see that it would wait in vain.
  void barrier() override {
    throw_failure();
    hosts_.barrier();
  }
  std::vector<std::string> gather(const std::string& own) override {
    throw_failure();
    return hosts_.gather(own);
  }

  std::string failure() override {
    // Whoever has the communicator looks for errors itself.
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return "";
    if (comm_ == nullptr) return failed_ ? ended_ : "";
    ncclResult_t status = ncclSuccess;
    if (nccl_->ncclCommGetAsyncError(comm_, &status) != ncclSuccess || status == ncclSuccess ||
        status == ncclInProgress)
      return "";
    return describe("a collective that was enqueued", status);
  }

  void finish() override {
    throw_failure();
    const std::lock_guard lock(mutex_);
    require_alive();
    for (Buffer& buffer : buffers_) release(buffer);
    complete(nccl_->ncclCommFinalize(comm_), "ncclCommFinalize");
    if (const ncclResult_t status = nccl_->ncclCommDestroy(comm_); status != ncclSuccess)
      fail(describe("ncclCommDestroy", status));
    comm_ = nullptr;
    ended_ = "the communicator has finished";
  }

 private:
  struct Buffer {
    void *memory = nullptr, *handle = nullptr;
  };

  // Rank 0's id on every rank. One that has no NCCL, or another, is named by all before any waits for it.
  ncclUniqueId meet() {
    ncclUniqueId id{};
    std::string own;
    try {
      nccl_ = &nccl();
      nccl_->ncclGetVersion(&version_);
      if (rank() == 0)
        if (const ncclResult_t status = nccl_->ncclGetUniqueId(&id); status != ncclSuccess)
          throw std::runtime_error("ncclGetUniqueId: " + reason(status));
      own = fmt::format("{} ", version_) + std::string(id.internal, sizeof id.internal);
    } catch (const std::runtime_error& error) {
      own = fmt::format("!rank {} on {}: {}", rank(), host_name(), error.what());
    }
    const std::vector<std::string> all = hosts_.gather(own);
    for (const std::string& text : all)
      if (text.starts_with('!')) throw AgreedError(text.substr(1));
    const auto version_of = [&](size_t r) { return std::stoi(all[r]); };
    for (size_t r = 1; r < all.size(); ++r)
      if (version_of(r) != version_of(0))
        throw AgreedError(fmt::format("rank 0 has NCCL {}, rank {} has {}: all must load the same",
                                      nccl_version(version_of(0)), r, nccl_version(version_of(r))));
    std::memcpy(id.internal, all[0].data() + all[0].find(' ') + 1, sizeof id.internal);
    return id;
  }

  [[nodiscard]] cudaStream_t stream_of_context() {
    cudaStream_t stream = nullptr;
    context_.run([&](auto& executor) {
      if constexpr (std::is_same_v<std::decay_t<decltype(executor)>, Cuda>) stream = executor.stream();
    });
    return stream;
  }

  void fork() {
    require_alive();
    check(cudaEventRecord(fork_.get(), stream_of_context()));
    check(cudaStreamWaitEvent(stream_.get(), fork_.get(), 0));
    begun_ = true;
  }

  void start_sum(void* values, int64_t size, ncclDataType_t type) {
    if (size == 0) return;
    fork();
    const std::lock_guard lock(mutex_);
    complete(nccl_->ncclAllReduce(values, values, static_cast<size_t>(size), type, ncclSum, comm_, stream_.get()),
             "ncclAllReduce");
  }

  // The first calls make connections, on a thread of NCCL's: until that is done, nothing else may be asked of it.
  void complete(ncclResult_t status, const char* call) {
    const auto start = Clock::now();
    while (status == ncclInProgress) {
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      if (seconds > timeout_)
        fail(fmt::format("rank {} on {}: {}: not connected with all {} ranks within {:.3g} s", rank(), host_name(),
                         call, world_size(), timeout_));
      std::this_thread::sleep_for(std::chrono::microseconds(seconds < 0.01 ? 20 : 1000));
      const ncclResult_t asked = nccl_->ncclCommGetAsyncError(comm_, &status);
      if (asked != ncclSuccess) status = asked;
    }
    if (status != ncclSuccess) fail(describe(call, status));
  }

  [[nodiscard]] std::string reason(ncclResult_t status) const {
    const char* more = nccl_->ncclGetLastError(comm_);
    const std::string text = nccl_->ncclGetErrorString(status);
    return more == nullptr || *more == '\0' ? text : fmt::format("{} ({})", text, more);
  }
  [[nodiscard]] std::string describe(const char* call, ncclResult_t status) const {
    return fmt::format("rank {} on {}: {}: {}", rank(), host_name(), call, reason(status));
  }
  void throw_failure() {
    const std::string text = failure();
    if (text.empty()) return;
    const std::lock_guard lock(mutex_);
    fail(text);
  }
  // What is enqueued would wait for ever, and with it whoever waits for the device, a destructor for one: so it ends.
  [[noreturn]] void fail(const std::string& text) {
    abort();
    ended_ = text, failed_ = true;
    throw PeerLost(text);
  }
  void require_alive() const {
    if (comm_ == nullptr) throw std::runtime_error(ended_);
  }

  void release(Buffer& buffer) {
    if (buffer.handle != nullptr) nccl_->ncclCommDeregister(comm_, buffer.handle);
    buffer.handle = nullptr;
  }
  // Ends what runs on the device, then waits until no recorded graph has calls of the communicator any more: on a
  // thread of its own, since whoever has such a graph may be among those that this one is about to return to.
  void abort() {
    if (comm_ == nullptr) return;
    aborting_ = std::jthread([nccl = nccl_, comm = std::exchange(comm_, nullptr)] { nccl->ncclCommAbort(comm); });
  }

  Context& context_;
  HostGroup& hosts_;
  const double timeout_;
  const NcclLibrary* nccl_ = nullptr;
  int version_ = 0;
  std::mutex mutex_;  // NCCL's communicator is for one thread at a time; failure() comes from another
  ncclComm_t comm_ = nullptr;
  std::string ended_;  // why there is none any more
  bool failed_ = false;
  Stream stream_ = make_urgent_stream();
  Event fork_ = make_event(), join_ = make_event();
  std::jthread aborting_;
  bool begun_ = false;  // something that the context's stream does not wait for yet
  std::vector<Buffer> buffers_;
};

}  // namespace

bool has_nccl() { return true; }

std::unique_ptr<Communicator> make_nccl_communicator(Context& context, HostGroup& hosts, double timeout_seconds) {
  require(!context.on_host(), "make_nccl_communicator", "the context is on the host");
  return std::make_unique<NcclCommunicator>(context, hosts, timeout_seconds);
}

}  // namespace gradlibra
