// SPDX-License-Identifier: MIT
// What this program's own symbol table says about a kernel: its name, and the __shared__ variables of its source file.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace gradlibra::emulator {

struct SharedVariable {
  char* data;
  size_t bytes;
};

struct KernelSymbols {
  std::string name;                // demangled; "" if the program was stripped
  size_t static_shared_bytes = 0;  // of the variables declared in the kernel itself
  // Of every kernel and helper with internal linkage in the same file.
  std::vector<SharedVariable> shared;
  // Of templates and inline functions in namespace gradlibra::kernels, whichever kernel uses them.
  std::vector<SharedVariable> inline_shared;
};

// Reads the symbol table at the first call for this kernel. Where there is none, the result is empty and nothing
// depends on it but the quality of checks and messages.
const KernelSymbols& symbols_of(const void* kernel);

}  // namespace gradlibra::emulator
