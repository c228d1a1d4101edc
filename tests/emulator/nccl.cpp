// SPDX-License-Identifier: MIT
// A rank's side of the emulated NCCL: what may be called when, and with what memory.
#include "nccl.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "emulator/block.h"
#include "memory.h"
#include "nccl_meeting.h"

using gradlibra::emulator::Answer;
using gradlibra::emulator::Call;
using gradlibra::emulator::LaunchError;

struct ncclComm {
  int socket = -1, rank = 0, ranks = 0;
  bool blocking = true, ready = false, finalized = false;
  int calls = 0;
  int polls_until_done = 0;  // of a call that has returned ncclInProgress
  ncclResult_t error = ncclSuccess;
  std::string why;
  std::map<char*, size_t> registered;
  std::shared_ptr<char> recorded = std::make_shared<char>();  // graphs have a copy for each of its calls
};

namespace {

struct Process {
  std::mutex mutex;  // of `communicators`: one is aborted on a thread of its own
  std::set<ncclComm*> communicators;
  std::map<void*, size_t> memory;  // of ncclMemAlloc
  int group_depth = 0;
  std::vector<std::function<ncclResult_t()>> group;
  double timeout = 20;
  bool registration = true;
  std::string last_error;
  gradlibra::emulator::Random random{gradlibra::emulator::seed()};
};
Process& process() {
  static auto* only = new Process;
  return *only;
}

ncclResult_t fail(ncclResult_t status, const std::string& why) {
  process().last_error = why;
  return status;
}

[[noreturn]] void refuse(const std::string& what) {
  throw LaunchError(what + " (seed " + std::to_string(gradlibra::emulator::seed()) + ")");
}

bool is_known(ncclComm* comm) {
  const std::lock_guard lock(process().mutex);
  return process().communicators.contains(comm);
}

// NCCL waits until no graph has calls of the communicator any more.
long calls_in_graphs(const ncclComm* comm) { return comm->recorded.use_count() - 1; }
[[noreturn]] void refuse_to_wait(const std::string& call, const ncclComm* comm) {
  refuse(call + ": graphs still have " + std::to_string(calls_in_graphs(comm)) +
         " recorded calls of the communicator, and it would wait until they are destroyed");
}

void require_usable(ncclComm* comm, const std::string& call) {
  if (!is_known(comm)) refuse(call + " on a communicator that was never made, or is destroyed or aborted");
  if (!comm->ready) refuse(call + " on a communicator whose ncclCommInitRankConfig is still in progress");
  if (comm->polls_until_done > 0) refuse(call + " while an earlier call on the communicator is in progress");
  if (comm->finalized) refuse(call + " on a communicator that is finalized");
}

void require_no_group(const std::string& call) {
  if (process().group_depth > 0) refuse(call + " in a group that is not ended");
}

// As a communicator that does not block does now and then.
ncclResult_t done(ncclComm* comm) {
  if (comm->blocking || process().random.below(2) == 0) return ncclSuccess;
  comm->polls_until_done = 1 + static_cast<int>(process().random.below(3));
  return ncclInProgress;
}

void receive_answer(ncclComm* comm, std::vector<char>& bytes) {
  Answer answer{Answer::Kind::lost};
  bool here = gradlibra::emulator::receive_bytes(comm->socket, &answer, sizeof answer);
  if (here) {
    bytes.resize(answer.bytes);
    here = gradlibra::emulator::receive_bytes(comm->socket, bytes.data(), bytes.size());
  }
  const std::string text(bytes.begin(), bytes.end());
  if (here && answer.kind == Answer::Kind::done) return;
  if (here && answer.kind == Answer::Kind::wrong) refuse(text);
  comm->error = ncclRemoteError;
  comm->why = here ? text : "the process of rank 0 has ended";
}

// False: another rank is gone.
bool make(ncclComm* comm, Call call, std::vector<char>& bytes) {
  call.rank = comm->rank, call.ranks = comm->ranks, call.number = ++comm->calls, call.bytes = bytes.size();
  if (!gradlibra::emulator::send_bytes(comm->socket, &call, sizeof call) ||
      !gradlibra::emulator::send_bytes(comm->socket, bytes.data(), bytes.size())) {
    comm->error = ncclRemoteError;
    comm->why = "the process of rank 0 has ended";
    return false;
  }
  receive_answer(comm, bytes);
  return comm->error == ncclSuccess;
}

// When the stream comes to it.
void run(ncclComm* comm, const Call& call, const void* from, void* to) {
  if (!is_known(comm)) refuse("a graph with " + to_string(call) + " was launched after its communicator was aborted");
  if (comm->error != ncclSuccess) return;
  std::vector<char> bytes(bytes_of(call));
  const bool brings = call.kind == Call::Kind::all_reduce || call.root == comm->rank;
  if (brings) (void)cudaMemcpy(bytes.data(), from, bytes.size(), cudaMemcpyDeviceToHost);
  if (!brings) bytes.clear();
  if (make(comm, call, bytes)) (void)cudaMemcpy(to, bytes.data(), bytes.size(), cudaMemcpyHostToDevice);
}

ncclResult_t start(ncclComm* comm, Call call, const void* from, void* to, cudaStream_t stream) {
  if (from != to) {
    const auto *a = static_cast<const char*>(from), *b = static_cast<const char*>(to);
    if (a < b + bytes_of(call) && b < a + bytes_of(call)) refuse(to_string(call) + ": the arrays overlap");
  }
  for (const void* memory : {from, static_cast<const void*>(to)})
    if (!gradlibra::emulator::is_device_range(memory, bytes_of(call)))
      refuse(to_string(call) + ": the array is not in device memory");
  for (const auto& [memory, bytes] : comm->registered)
    if (from >= memory && static_cast<const char*>(from) + bytes_of(call) <= memory + bytes) call.registered = true;
  const auto work = [=] { run(comm, call, from, to); };
  const auto recorded = [work, in_graph = comm->recorded] { work(); };
  if (!gradlibra::emulator::record(stream, recorded)) work();
  return done(comm);
}

ncclResult_t enqueue(ncclComm* comm, const Call& call, const void* from, void* to, cudaStream_t stream) {
  const char* name = call.kind == Call::Kind::broadcast ? "ncclBroadcast" : "ncclAllReduce";
  require_usable(comm, name);
  if (call.type != ncclFloat32 && call.type != ncclFloat64)
    return fail(ncclInvalidArgument, std::string(name) + ": no such type here");
  if (call.op != ncclSum) return fail(ncclInvalidArgument, std::string(name) + ": only sums here");
  if (call.root < 0 || call.root >= comm->ranks)
    return fail(ncclInvalidArgument,
                std::string(name) + ": root " + std::to_string(call.root) + " of " + std::to_string(comm->ranks));
  if (call.count == 0) return ncclSuccess;
  if (process().group_depth == 0) return start(comm, call, from, to, stream);
  process().group.emplace_back([=] { return start(comm, call, from, to, stream); });
  return ncclSuccess;
}

void forget(ncclComm* comm) {
  const std::lock_guard lock(process().mutex);
  process().communicators.erase(comm);
}
void close(ncclComm* comm) {
  ::close(comm->socket);
  delete comm;
}

}  // namespace

const char* ncclGetErrorString(ncclResult_t status) {
  switch (status) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "operation in progress";
  }
  return "unknown result code";
}
const char* ncclGetLastError(ncclComm_t comm) {
  if (is_known(comm) && comm->error != ncclSuccess) return comm->why.c_str();
  return process().last_error.c_str();
}
ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const std::string name = gradlibra::emulator::start_meeting(process().timeout);
  if (name.empty()) return fail(ncclSystemError, "no socket to meet at");
  *id = {};
  std::memcpy(id->internal, name.data(), name.size());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  *comm = nullptr;
  if (config != nullptr && (config->magic != 0xcafebeef || config->size < offsetof(ncclConfig_t, splitShare)))
    return fail(ncclInvalidArgument, "ncclCommInitRankConfig: the configuration was not initialized");
  if (ranks < 1 || rank < 0 || rank >= ranks)
    return fail(ncclInvalidArgument,
                "ncclCommInitRankConfig: rank " + std::to_string(rank) + " of " + std::to_string(ranks));
  const std::string name(id.internal, strnlen(id.internal, sizeof id.internal));
  const int socket = gradlibra::emulator::connect_to_meeting(name);
  if (socket < 0) return fail(ncclSystemError, "ncclCommInitRankConfig: nobody meets at this id");
  auto* made = new ncclComm{.socket = socket, .rank = rank, .ranks = ranks};
  {
    const std::lock_guard lock(process().mutex);
    process().communicators.insert(made);
  }
  *comm = made;
  const Call hello{.kind = Call::Kind::hello, .rank = rank, .ranks = ranks};
  (void)gradlibra::emulator::send_bytes(socket, &hello, sizeof hello);
  made->blocking = config == nullptr || config->blocking != 0;
  if (!made->blocking) return ncclInProgress;
  std::vector<char> nothing;
  receive_answer(made, nothing);
  made->ready = true;
  return made->error;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* status) {
  require_no_group("ncclCommGetAsyncError");
  if (!is_known(comm))
    refuse("ncclCommGetAsyncError on a communicator that was never made, or is destroyed or aborted");
  *status = ncclInProgress;
  if (!comm->ready) {
    pollfd waits{comm->socket, POLLIN, 0};
    if (::poll(&waits, 1, 0) == 0) return ncclSuccess;
    std::vector<char> nothing;
    receive_answer(comm, nothing);
    comm->ready = true;
  } else if (comm->polls_until_done > 0 && --comm->polls_until_done > 0) {
    return ncclSuccess;
  }
  *status = comm->error;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  require_no_group("ncclCommFinalize");
  require_usable(comm, "ncclCommFinalize");
  if (!comm->registered.empty()) refuse("ncclCommFinalize: memory is still registered");
  if (calls_in_graphs(comm) > 0) refuse_to_wait("ncclCommFinalize", comm);
  std::vector<char> nothing;
  if (comm->error != ncclSuccess || !make(comm, {.kind = Call::Kind::finalize}, nothing)) return comm->error;
  comm->finalized = true;
  return done(comm);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  require_no_group("ncclCommDestroy");
  if (!is_known(comm)) refuse("ncclCommDestroy on a communicator that was never made, or is destroyed or aborted");
  if (!comm->finalized && comm->ready) {
    const bool blocking = std::exchange(comm->blocking, true);
    if (const ncclResult_t status = ncclCommFinalize(comm); status != ncclSuccess) {
      comm->blocking = blocking;
      return status;
    }
  }
  if (calls_in_graphs(comm) > 0) refuse_to_wait("ncclCommDestroy", comm);
  forget(comm);
  close(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (!is_known(comm)) refuse("ncclCommAbort on a communicator that was never made, or is destroyed or aborted");
  const Call abort{.kind = Call::Kind::abort, .rank = comm->rank, .ranks = comm->ranks};
  (void)gradlibra::emulator::send_bytes(comm->socket, &abort, sizeof abort);
  forget(comm);
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(process().timeout);
  while (calls_in_graphs(comm) > 0) {
    if (std::chrono::steady_clock::now() > until) refuse_to_wait("ncclCommAbort", comm);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  close(comm);
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++process().group_depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (process().group_depth == 0) return fail(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  if (--process().group_depth > 0) return ncclSuccess;
  ncclResult_t status = ncclSuccess;
  for (const auto& call : std::exchange(process().group, {}))
    if (const ncclResult_t one = call(); one != ncclSuccess) status = one;
  return status;
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return enqueue(comm, {.kind = Call::Kind::all_reduce, .count = count, .type = type, .op = op}, from, to, stream);
}
ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  return enqueue(comm, {.kind = Call::Kind::broadcast, .count = count, .type = type, .root = root}, from, to, stream);
}

ncclResult_t ncclMemAlloc(void** pointer, size_t bytes) {
  if (cudaMalloc(pointer, bytes) != cudaSuccess) return fail(ncclUnhandledCudaError, "ncclMemAlloc");
  process().memory[*pointer] = bytes;
  return ncclSuccess;
}
ncclResult_t ncclMemFree(void* pointer) {
  if (process().memory.erase(pointer) == 0) refuse("ncclMemFree of what ncclMemAlloc has not given");
  const std::lock_guard lock(process().mutex);
  for (const ncclComm* comm : process().communicators)
    if (comm->registered.contains(static_cast<char*>(pointer))) refuse("ncclMemFree of memory that is registered");
  return cudaFree(pointer) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}
ncclResult_t ncclCommRegister(ncclComm_t comm, void* memory, size_t bytes, void** handle) {
  require_usable(comm, "ncclCommRegister");
  const auto allocated = process().memory.find(memory);
  if (!process().registration || allocated == process().memory.end() || allocated->second < bytes)
    return fail(ncclInvalidArgument, "ncclCommRegister: not memory of ncclMemAlloc, or the device cannot");
  comm->registered[static_cast<char*>(memory)] = bytes;
  *handle = memory;
  return ncclSuccess;
}
ncclResult_t ncclCommDeregister(ncclComm_t comm, void* handle) {
  require_usable(comm, "ncclCommDeregister");
  if (comm->registered.erase(static_cast<char*>(handle)) == 0) refuse("ncclCommDeregister of what is not registered");
  return ncclSuccess;
}

namespace gradlibra::emulator {

void set_collective_timeout(double seconds) { process().timeout = seconds; }
void fail_collectives(ncclResult_t status, const std::string& why) {
  const std::lock_guard lock(process().mutex);
  for (ncclComm* comm : process().communicators) comm->error = status, comm->why = why;
}
void allow_registration(bool allowed) { process().registration = allowed; }

}  // namespace gradlibra::emulator
