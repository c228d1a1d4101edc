// SPDX-License-Identifier: MIT
#include "runtime/device/cublaslt_library.h"

#include <dlfcn.h>

#include <stdexcept>

namespace gradlibra {

namespace {

struct Loaded {
  CublasltLibrary library;
  std::string why;  // empty if all of it is there

  Loaded() {
    const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
    void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      why = dlerror();
      return;
    }
    const auto find = [&]<class Function>(Function& function, const char* symbol) {
      function = reinterpret_cast<Function>(dlsym(handle, symbol));
      if (function == nullptr) why = name + " has no " + symbol;
    };
    find(library.cublasLtGetStatusString, "cublasLtGetStatusString");
    find(library.cublasLtCreate, "cublasLtCreate");
    find(library.cublasLtMatmul, "cublasLtMatmul");
    find(library.cublasLtMatmulAlgoGetHeuristic, "cublasLtMatmulAlgoGetHeuristic");
    find(library.cublasLtMatmulDescCreate, "cublasLtMatmulDescCreate");
    find(library.cublasLtMatmulDescDestroy, "cublasLtMatmulDescDestroy");
    find(library.cublasLtMatmulDescSetAttribute, "cublasLtMatmulDescSetAttribute");
    find(library.cublasLtMatmulPreferenceCreate, "cublasLtMatmulPreferenceCreate");
    find(library.cublasLtMatmulPreferenceDestroy, "cublasLtMatmulPreferenceDestroy");
    find(library.cublasLtMatmulPreferenceSetAttribute, "cublasLtMatmulPreferenceSetAttribute");
    find(library.cublasLtMatrixLayoutCreate, "cublasLtMatrixLayoutCreate");
    find(library.cublasLtMatrixLayoutDestroy, "cublasLtMatrixLayoutDestroy");
  }
};

const Loaded& loaded() {
  static const Loaded& only = *new Loaded;
  return only;
}

}  // namespace

const CublasltLibrary* cublaslt(std::string& why) {
  const Loaded& all = loaded();
  if (all.why.empty()) return &all.library;
  why = all.why;
  return nullptr;
}

void check(cublasStatus_t status, std::source_location at) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const Loaded& all = loaded();
  const std::string text =
      all.why.empty() ? all.library.cublasLtGetStatusString(status) : "status " + std::to_string(status);
  throw std::runtime_error(std::string(at.file_name()) + ":" + std::to_string(at.line()) + ": cuBLASLt: " + text);
}

}  // namespace gradlibra
