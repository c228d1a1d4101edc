// SPDX-License-Identifier: MIT
// cuBLASLt, NVIDIA's matrix products. cuDNN loads the library, so it should be there where cuDNN is; it is opened at
// run time, because the programs also start where there is no GPU and half a gigabyte of library is of no use. Without
// it cuDNN computes everything.
#pragma once

#include <cublasLt.h>

#include <memory>
#include <source_location>
#include <string>

namespace gradlibra {

// The functions in use, under their own names.
struct CublasltLibrary {
  // NOLINTBEGIN(readability-identifier-naming): cuBLASLt's
  decltype(&::cublasLtGetStatusString) cublasLtGetStatusString = nullptr;
  decltype(&::cublasLtCreate) cublasLtCreate = nullptr;
  decltype(&::cublasLtMatmul) cublasLtMatmul = nullptr;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) cublasLtMatmulAlgoGetHeuristic = nullptr;
  decltype(&::cublasLtMatmulDescCreate) cublasLtMatmulDescCreate = nullptr;
  decltype(&::cublasLtMatmulDescDestroy) cublasLtMatmulDescDestroy = nullptr;
  decltype(&::cublasLtMatmulDescSetAttribute) cublasLtMatmulDescSetAttribute = nullptr;
  decltype(&::cublasLtMatmulPreferenceCreate) cublasLtMatmulPreferenceCreate = nullptr;
  decltype(&::cublasLtMatmulPreferenceDestroy) cublasLtMatmulPreferenceDestroy = nullptr;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) cublasLtMatmulPreferenceSetAttribute = nullptr;
  decltype(&::cublasLtMatrixLayoutCreate) cublasLtMatrixLayoutCreate = nullptr;
  decltype(&::cublasLtMatrixLayoutDestroy) cublasLtMatrixLayoutDestroy = nullptr;
  // NOLINTEND(readability-identifier-naming)
};

// Null where the library cannot be loaded; `why` then says so. Loaded once, never unloaded. Any thread.
[[nodiscard]] const CublasltLibrary* cublaslt(std::string& why);

// Throws std::runtime_error "file:line: message" for any status but success.
void check(cublasStatus_t status, std::source_location at = std::source_location::current());

}  // namespace gradlibra
