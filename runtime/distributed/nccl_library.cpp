// SPDX-License-Identifier: MIT
#include "runtime/distributed/nccl_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <stdexcept>

namespace gradlibra {

static_assert(NCCL_VERSION_CODE >= kOldestNccl, "NCCL 2.19.3 or newer is needed");

namespace {

constexpr const char* kName = "libnccl.so.2";

struct Loaded {
  NcclLibrary library;
  std::string why;  // empty if all of it is there

  Loaded() {
    void* handle = dlopen(kName, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      why = dlerror();
      return;
    }
    const auto find = [&]<class Function>(Function& function, const char* symbol) {
      function = reinterpret_cast<Function>(dlsym(handle, symbol));
      if (function == nullptr) why = fmt::format("{} has no {}", kName, symbol);
    };
    find(library.ncclGetVersion, "ncclGetVersion");
    find(library.ncclGetErrorString, "ncclGetErrorString");
    find(library.ncclGetLastError, "ncclGetLastError");
    find(library.ncclGetUniqueId, "ncclGetUniqueId");
    find(library.ncclCommInitRankConfig, "ncclCommInitRankConfig");
    find(library.ncclCommGetAsyncError, "ncclCommGetAsyncError");
    find(library.ncclCommFinalize, "ncclCommFinalize");
    find(library.ncclCommDestroy, "ncclCommDestroy");
    find(library.ncclCommAbort, "ncclCommAbort");
    find(library.ncclAllReduce, "ncclAllReduce");
    find(library.ncclBroadcast, "ncclBroadcast");
    find(library.ncclMemAlloc, "ncclMemAlloc");
    find(library.ncclMemFree, "ncclMemFree");
    find(library.ncclCommRegister, "ncclCommRegister");
    find(library.ncclCommDeregister, "ncclCommDeregister");
    if (!why.empty()) return;
    int version = 0;
    library.ncclGetVersion(&version);
    if (version < kOldestNccl)
      why = fmt::format("{} is NCCL {}, older than {}", kName, nccl_version(version), nccl_version(kOldestNccl));
  }
};

}  // namespace

const NcclLibrary& nccl() {
  static const Loaded& only = *new Loaded;
  if (!only.why.empty())
    throw std::runtime_error(
        fmt::format("ranks on GPUs need NCCL: {}; install libnccl2 from NVIDIA's repository, or name the folder where "
                    "it lies in LD_LIBRARY_PATH",
                    only.why));
  return only.library;
}

}  // namespace gradlibra
