// SPDX-License-Identifier: MIT
// In the place of runtime/distributed/nccl_library.cpp: the emulated functions.
#include "runtime/distributed/nccl_library.h"

namespace gradlibra {

const NcclLibrary& nccl() {
  static const NcclLibrary emulated{
      ::ncclGetVersion,        ::ncclGetErrorString, ::ncclGetLastError, ::ncclGetUniqueId,  ::ncclCommInitRankConfig,
      ::ncclCommGetAsyncError, ::ncclCommFinalize,   ::ncclCommDestroy,  ::ncclCommAbort,    ::ncclAllReduce,
      ::ncclBroadcast,         ::ncclMemAlloc,       ::ncclMemFree,      ::ncclCommRegister, ::ncclCommDeregister};
  return emulated;
}

}  // namespace gradlibra
