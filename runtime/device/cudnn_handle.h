// SPDX-License-Identifier: MIT
// What every call of cuDNN needs: the library handle with its owner, checked return codes, and a check of versions.
#pragma once

#include <cudnn.h>

#include <memory>
#include <source_location>
#include <string>

namespace gradlibra {

// Throws std::runtime_error "file:line: message" for any status but success.
void check(cudnnStatus_t status, std::source_location at = std::source_location::current());

struct CudnnDestroyer {
  void operator()(cudnnContext* handle) const noexcept { cudnnDestroy(handle); }
};
using CudnnHandle = std::unique_ptr<cudnnContext, CudnnDestroyer>;

// A handle on the current device whose work goes to `stream`. std::runtime_error if the library that was loaded is not
// one for the headers this program was compiled with.
[[nodiscard]] CudnnHandle make_cudnn_handle(cudaStream_t stream);

// "9.19.0" of 91900. Before version 9 there was a digit less: "8.9.7" of 8907.
[[nodiscard]] std::string cudnn_version_text(size_t version);
// Empty if a program compiled with the headers of one version runs with the library of the other, else what is wrong
// and what to do. Within a major version NVIDIA keeps the interface of older minor versions, so the library may be
// newer, not older.
[[nodiscard]] std::string cudnn_version_problem(size_t compiled, size_t loaded);

}  // namespace gradlibra
