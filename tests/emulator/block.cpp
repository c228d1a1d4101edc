// SPDX-License-Identifier: MIT
// The scheduler: a block's threads are bits in one mask per warp (ready, waiting at the block's barrier, waiting in a
// warp operation, exited), and whoever stops picks at random who goes on. Fibers are workers: one that finishes a
// thread takes up the next thread that has not started, so a kernel without barriers runs on a single stack.
#include "emulator/block.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <exception>
#include <memory>
#include <numeric>
#include <vector>

#include "collective.h"
#include "fiber.h"
#include "kernel_symbols.h"
#include "memory.h"

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace gradlibra::emulator {
namespace {

struct Thread {
  uint3 index;
  Fiber* fiber;  // null until it starts
  Collective collective;
  std::source_location barrier;
};

struct Warp {
  unsigned lanes;  // that exist
  unsigned ready, at_barrier, in_collective, exited;
};

uint64_t initial_seed() {
  const char* text = std::getenv("GRADLIBRA_EMULATOR_SEED");
  return text == nullptr ? 0 : std::strtoull(text, nullptr, 0);
}
uint64_t current_seed = initial_seed();
uint64_t launches_of_seed = 0;

std::string describe(const Geometry& g) {
  const std::string& kernel = symbols_of(g.kernel).name;
  return (kernel.empty() ? "kernel" : kernel) + " launched at " + to_string(g.where) + ", grid " + to_string(g.grid) +
         ", block " + to_string(g.block) + ", " + std::to_string(g.shared_bytes) +
         " bytes of dynamic shared memory, seed " + std::to_string(current_seed) + ", launch number " +
         std::to_string(launches_of_seed);
}

// One launch at a time; everything below belongs to it.
class Machine {
 public:
  void run(const Geometry& geometry, void (*body)(void*), void* context);

  unsigned barrier(bool predicate, std::source_location where);
  uint64_t collective(WarpOp op, unsigned mask, uint64_t value, int operand, int width, std::source_location where);
  [[nodiscard]] unsigned active_lanes() const { return warp().lanes & ~warp().exited; }
  [[noreturn]] void fail(const std::string& what) const;
  [[nodiscard]] void* shared() const { return shared_.data(); }
  [[nodiscard]] bool running() const { return geometry_ != nullptr; }

 private:
  static void worker();
  void work();
  void run_block();
  void suspend();
  Thread* next();
  Thread* pick();
  Fiber& idle_fiber();
  void make_current(Thread* thread) {
    current_ = thread;
    threadIdx = thread->index;
  }
  void release_barrier();
  [[nodiscard]] unsigned id() const { return static_cast<unsigned>(current_ - threads_.data()); }
  [[nodiscard]] Warp& warp() { return warps_[id() / kLanes]; }
  [[nodiscard]] const Warp& warp() const { return warps_[id() / kLanes]; }
  [[nodiscard]] unsigned bit() const { return 1u << (id() % kLanes); }
  void make_ready(unsigned w, unsigned lanes) {
    warps_[w].ready |= lanes;
    ready_warps_ |= 1u << w;
  }
  [[nodiscard]] std::string stuck() const;

  const Geometry* geometry_ = nullptr;
  const KernelSymbols* symbols_ = nullptr;
  void (*body_)(void*) = nullptr;
  void* context_ = nullptr;

  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  unsigned ready_warps_ = 0;  // those with a ready thread
  unsigned waiting_ = 0, exited_ = 0;
  unsigned true_predicates_ = 0, barrier_result_ = 0;
  Thread* current_ = nullptr;
  Thread* at_barrier_ = nullptr;  // the first that came
  unsigned warp_ = 0;
  bool stay_in_warp_ = false;

  Fiber main_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  std::exception_ptr failure_;
  SharedMemory shared_;
  Random random_{0};
};

Machine& machine() {
  static Machine instance;
  return instance;
}

void Machine::fail(const std::string& what) const {
  throw LaunchError(what + " [thread " + to_string(dim3(threadIdx)) + " of block " + to_string(dim3(blockIdx)) + ", " +
                    describe(*geometry_) + "]");
}

void check_limits(const Geometry& g) {
  const auto refuse = [&](const std::string& what) { throw LaunchError(what + " [" + describe(g) + "]"); };
  const uint64_t threads = uint64_t{g.block.x} * g.block.y * g.block.z;
  if (g.kernel == nullptr) refuse("null kernel");
  if (g.grid.x == 0 || g.grid.y == 0 || g.grid.z == 0) refuse("empty grid");
  if (threads == 0) refuse("empty block");
  if (g.block.x > kMaxThreads || g.block.y > kMaxThreads || threads > kMaxThreads)
    refuse("more than " + std::to_string(kMaxThreads) + " threads in a block");
  if (g.block.z > kMaxBlockZ) refuse("block.z above " + std::to_string(kMaxBlockZ));
  if (g.grid.x > kMaxGridX) refuse("grid.x above " + std::to_string(kMaxGridX));
  if (g.grid.y > kMaxGridYZ || g.grid.z > kMaxGridYZ) refuse("grid.y or grid.z above " + std::to_string(kMaxGridYZ));
  const size_t static_bytes = symbols_of(g.kernel).static_shared_bytes;
  if (g.shared_bytes + static_bytes > kMaxSharedBytes)
    refuse("more than " + std::to_string(kMaxSharedBytes) + " bytes of shared memory (" + std::to_string(static_bytes) +
           " of them static)");
}

void Machine::run(const Geometry& geometry, void (*body)(void*), void* context) {
  if (running()) fail("a kernel cannot launch a kernel");
  ++launches_of_seed;
  check_limits(geometry);
  random_ = Random(current_seed * 0x9e3779b97f4a7c15u + launches_of_seed);
  geometry_ = &geometry;
  symbols_ = &symbols_of(geometry.kernel);
  body_ = body;
  context_ = context;
  blockDim = geometry.block;
  gridDim = geometry.grid;

  const unsigned count = geometry.block.x * geometry.block.y * geometry.block.z;
  threads_.resize(count);
  for (unsigned t = 0; t < count; ++t)
    threads_[t].index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
  warps_.resize((count + kLanes - 1) / kLanes);
  for (unsigned w = 0; w < warps_.size(); ++w) {
    const unsigned lanes = std::min(kLanes, count - w * kLanes);
    warps_[w].lanes = lanes == kLanes ? 0xffffffffu : (1u << lanes) - 1;
  }
  shared_.resize(geometry.shared_bytes);

  struct Cleanup {
    Machine& machine;
    ~Cleanup() {
      machine.geometry_ = nullptr;
      machine.shared_.resize(0);
      lock_device_memory();
      if (machine.failure_) {  // suspended threads will never go on: drop their stacks
        machine.idle_.clear();
        machine.fibers_.clear();
        machine.failure_ = nullptr;
      }
    }
  } cleanup{*this};
  unlock_device_memory();

  for (const SharedVariable& v : symbols_->inline_shared) fill_with_garbage(v.data, v.bytes, random_);

  // Blocks in the order first, first + step, ... modulo their number; step is coprime to it, so each comes once.
  const uint64_t blocks = uint64_t{gridDim.x} * gridDim.y * gridDim.z;
  uint64_t step = blocks < 3 ? 1 : 1 + random_.below(blocks - 1);
  while (std::gcd(step, blocks) != 1) ++step;
  uint64_t block = random_.below(blocks);
  for (uint64_t i = 0; i < blocks; ++i) {
    blockIdx = {static_cast<unsigned>(block % gridDim.x), static_cast<unsigned>(block / gridDim.x % gridDim.y),
                static_cast<unsigned>(block / (uint64_t{gridDim.x} * gridDim.y))};
    run_block();
    block = (block + step) % blocks;
  }
}

void Machine::run_block() {
  for (Thread& t : threads_) t.fiber = nullptr;
  ready_warps_ = 0;
  for (unsigned w = 0; w < warps_.size(); ++w) {
    warps_[w].at_barrier = warps_[w].in_collective = warps_[w].exited = warps_[w].ready = 0;
    make_ready(w, warps_[w].lanes);
  }
  waiting_ = exited_ = true_predicates_ = 0;
  at_barrier_ = nullptr;
  // Two ways to be unfair: all threads at random, or one warp as far as it can go.
  stay_in_warp_ = random_.below(2) == 0;
  warp_ = static_cast<unsigned>(random_.below(warps_.size()));
  fill_with_garbage(shared_.data(), shared_.bytes(), random_);
  for (const SharedVariable& v : symbols_->shared) fill_with_garbage(v.data, v.bytes, random_);

  make_current(pick());
  Fiber::switch_to(main_, idle_fiber());
  if (!failure_ && exited_ < threads_.size()) {
    try {
      fail(stuck());
    } catch (...) {
      failure_ = std::current_exception();
    }
  }
  if (failure_) {
    const std::exception_ptr failure = failure_;
    std::rethrow_exception(failure);
  }
}

Fiber& Machine::idle_fiber() {
  if (idle_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>(&Machine::worker));
    idle_.push_back(fibers_.back().get());
  }
  Fiber* fiber = idle_.back();
  idle_.pop_back();
  return *fiber;
}

void Machine::worker() { machine().work(); }

void Machine::work() {
  Fiber* self = fibers_.back().get();  // was made for this first call
  for (;;) {
    current_->fiber = self;
    try {
      body_(context_);
    } catch (...) {
      failure_ = std::current_exception();
    }
    if (failure_) Fiber::switch_to(*self, main_);
    warp().exited |= bit();
    ++exited_;
    Thread* thread = next();
    if (thread != nullptr && thread->fiber == nullptr) {
      make_current(thread);
      continue;
    }
    idle_.push_back(self);
    if (thread != nullptr) make_current(thread);
    Fiber::switch_to(*self, thread == nullptr ? main_ : *thread->fiber);
  }
}

// The running thread stops until another one makes it ready and it is picked.
void Machine::suspend() {
  Thread* self = current_;
  Thread* thread = next();
  if (thread == self) return;
  if (thread == nullptr) {
    Fiber::switch_to(*self->fiber, main_);
  } else {
    make_current(thread);
    Fiber::switch_to(*self->fiber, thread->fiber == nullptr ? idle_fiber() : *thread->fiber);
  }
}

// Null when the block has ended or cannot go on.
Thread* Machine::next() {
  if (ready_warps_ == 0) return nullptr;
  return pick();
}

Thread* Machine::pick() {
  const auto any_bit = [&](unsigned mask) {
    const int turn = static_cast<int>(random_.bits() & 31);
    return (static_cast<unsigned>(std::countr_zero(std::rotr(mask, turn))) + static_cast<unsigned>(turn)) % 32;
  };
  if (!stay_in_warp_ || (ready_warps_ >> warp_ & 1u) == 0) warp_ = any_bit(ready_warps_);
  Warp& warp = warps_[warp_];
  const unsigned lane = any_bit(warp.ready);
  warp.ready &= ~(1u << lane);
  if (warp.ready == 0) ready_warps_ &= ~(1u << warp_);
  return &threads_[warp_ * kLanes + lane];
}

unsigned Machine::barrier(bool predicate, std::source_location where) {
  if (at_barrier_ == nullptr)
    at_barrier_ = current_;
  else if (!same_place(at_barrier_->barrier, where))
    fail("threads of a block wait at different barriers: " + to_string(where) + ", and thread " +
         to_string(dim3(at_barrier_->index)) + " at " + to_string(at_barrier_->barrier));
  current_->barrier = where;
  warp().at_barrier |= bit();
  true_predicates_ += predicate;
  if (++waiting_ == threads_.size()) release_barrier();
  suspend();
  return barrier_result_;
}

void Machine::release_barrier() {
  for (unsigned w = 0; w < warps_.size(); ++w) {
    make_ready(w, warps_[w].at_barrier);
    warps_[w].at_barrier = 0;
  }
  barrier_result_ = true_predicates_;
  waiting_ = true_predicates_ = 0;
  at_barrier_ = nullptr;
}

uint64_t Machine::collective(WarpOp op, unsigned mask, uint64_t value, int operand, int width,
                             std::source_location where) {
  const auto at = [&] { return std::string(name(op)) + " at " + to_string(where) + ": "; };
  if ((mask & bit()) == 0) fail(at() + "the calling lane is not in the mask " + hex(mask));
  if (width < 1 || width > 32 || !std::has_single_bit(static_cast<unsigned>(width)))
    fail(at() + "width " + std::to_string(width) + " is not a power of two up to 32");
  Warp& own = warp();
  if (const unsigned gone = mask & ~(own.lanes & ~own.exited); gone != 0)
    fail(at() + "the mask " + hex(mask) + " names lanes that have exited or do not exist (" + hex(gone) + ")");
  Thread* self = current_;
  self->collective = {op, mask, value, operand, width, where, 0};
  own.in_collective |= bit();
  if ((own.in_collective & mask) == mask) {
    const unsigned w = id() / kLanes;
    std::array<Collective*, kLanes> lanes{};
    for (unsigned lane = 0; lane < kLanes; ++lane)
      if ((mask >> lane & 1u) != 0) lanes[lane] = &threads_[w * kLanes + lane].collective;
    if (const std::string difference = exchange(lanes, id() % kLanes); !difference.empty()) fail(difference);
    own.in_collective &= ~mask;
    make_ready(w, mask);
  }
  suspend();
  return self->collective.result;
}

std::string Machine::stuck() const {
  std::string text = "the block cannot go on: " + std::to_string(exited_) + " of " + std::to_string(threads_.size()) +
                     " threads have exited";
  unsigned at_barrier = 0, in_collective = 0;
  const Thread *barrier = nullptr, *collective = nullptr;
  for (unsigned t = 0; t < threads_.size(); ++t) {
    const Warp& w = warps_[t / kLanes];
    if ((w.at_barrier >> t % kLanes & 1u) != 0) ++at_barrier, barrier = &threads_[t];
    if ((w.in_collective >> t % kLanes & 1u) != 0) ++in_collective, collective = &threads_[t];
  }
  if (barrier != nullptr)
    text += ", " + std::to_string(at_barrier) + " wait at the block's barrier (thread " +
            to_string(dim3(barrier->index)) + " at " + to_string(barrier->barrier) + ")";
  if (collective != nullptr)
    text += ", " + std::to_string(in_collective) + " wait in warp operations (thread " +
            to_string(dim3(collective->index)) + " in " + name(collective->collective.op) + " at " +
            to_string(collective->collective.where) + " with mask " + hex(collective->collective.mask) + ")";
  return text;
}

}  // namespace

void run(const Geometry& geometry, void (*body)(void*), void* context) { machine().run(geometry, body, context); }

void* dynamic_shared_memory() { return machine().shared(); }

void require_device_pointer(const void* pointer, int argument, const Geometry& geometry) {
  if (pointer == nullptr || is_device_pointer(pointer)) return;
  throw LaunchError("argument " + std::to_string(argument) + " is not device memory, or is freed [" +
                    describe(geometry) + "]");
}

void set_seed(uint64_t seed) {
  current_seed = seed;
  launches_of_seed = 0;
  seed_memory(seed);
}
uint64_t seed() { return current_seed; }

unsigned block_barrier(bool predicate, std::source_location where) { return machine().barrier(predicate, where); }
uint64_t warp_collective(WarpOp op, unsigned mask, uint64_t value, int operand, int width, std::source_location where) {
  return machine().collective(op, mask, value, operand, width, where);
}
unsigned active_lanes() { return machine().active_lanes(); }
void trap(std::source_location where) { machine().fail("__trap at " + to_string(where)); }

}  // namespace gradlibra::emulator
