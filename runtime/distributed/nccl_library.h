// SPDX-License-Identifier: MIT
// NCCL, NVIDIA's collectives. It is opened at run time: the programs also start where there is no GPU, or only one, and
// two hundred megabytes of library are of no use.
#pragma once

#include <nccl.h>

#include <string>

namespace gradlibra {

// The functions in use, under their own names.
struct NcclLibrary {
  // NOLINTBEGIN(readability-identifier-naming): NCCL's
  decltype(&::ncclGetVersion) ncclGetVersion = nullptr;
  decltype(&::ncclGetErrorString) ncclGetErrorString = nullptr;
  decltype(&::ncclGetLastError) ncclGetLastError = nullptr;
  decltype(&::ncclGetUniqueId) ncclGetUniqueId = nullptr;
  decltype(&::ncclCommInitRankConfig) ncclCommInitRankConfig = nullptr;
  decltype(&::ncclCommGetAsyncError) ncclCommGetAsyncError = nullptr;
  decltype(&::ncclCommFinalize) ncclCommFinalize = nullptr;
  decltype(&::ncclCommDestroy) ncclCommDestroy = nullptr;
  decltype(&::ncclCommAbort) ncclCommAbort = nullptr;
  decltype(&::ncclAllReduce) ncclAllReduce = nullptr;
  decltype(&::ncclBroadcast) ncclBroadcast = nullptr;
  decltype(&::ncclMemAlloc) ncclMemAlloc = nullptr;
  decltype(&::ncclMemFree) ncclMemFree = nullptr;
  decltype(&::ncclCommRegister) ncclCommRegister = nullptr;
  decltype(&::ncclCommDeregister) ncclCommDeregister = nullptr;
  // NOLINTEND(readability-identifier-naming)
};

inline constexpr int kOldestNccl = NCCL_VERSION(2, 19, 3);  // the first with ncclCommRegister and ncclMemAlloc

// Loaded once, never unloaded. std::runtime_error says what is missing, or that it is older than kOldestNccl.
[[nodiscard]] const NcclLibrary& nccl();

// "2.28.9" of the number that ncclGetVersion tells.
[[nodiscard]] inline std::string nccl_version(int number) {
  return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." + std::to_string(number % 100);
}

}  // namespace gradlibra
