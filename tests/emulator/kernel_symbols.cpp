// SPDX-License-Identifier: MIT
// A __shared__ variable is a function's static variable here, and the compiler does not say where those are. The ELF
// symbol table does: an object named _ZZ<function>E<variable> among the local symbols that follow the file's own
// symbol, or in the kernels' namespace. Host code in those places has no static variables, as a rule of this project.
#include "kernel_symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string_view>

namespace gradlibra::emulator {
namespace {

struct Symbol {
  std::string_view name;
  uintptr_t address;
  size_t bytes;
  bool function;
  bool local;  // internal linkage
  int file;    // a number for the .cu file of a local symbol, else -1
};

constexpr std::string_view kInlineVariable = "_ZZN9gradlibra7kernels";

uintptr_t load_bias() {
  uintptr_t bias = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* result) {
        *static_cast<uintptr_t*>(result) = info->dlpi_addr;
        return 1;  // the program itself comes first
      },
      &bias);
  return bias;
}

std::string read_program() {
  std::ifstream in("/proc/self/exe", std::ios::binary | std::ios::ate);
  std::string image(in ? static_cast<size_t>(in.tellg()) : 0, '\0');
  in.seekg(0);
  in.read(image.data(), static_cast<std::streamsize>(image.size()));
  return image;
}

// Functions, and writable objects that are static variables of functions.
std::vector<Symbol> read_symbols(const std::string& image) {
  std::vector<Symbol> symbols;
  const auto at = [&](size_t offset) { return image.data() + offset; };
  ElfW(Ehdr) header;
  if (image.size() < sizeof(header)) return symbols;
  std::memcpy(&header, at(0), sizeof(header));
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return symbols;
  std::vector<ElfW(Shdr)> sections(header.e_shnum);
  std::memcpy(sections.data(), at(header.e_shoff), sections.size() * sizeof(ElfW(Shdr)));

  const uintptr_t bias = load_bias();
  for (const ElfW(Shdr) & table : sections) {
    if (table.sh_type != SHT_SYMTAB) continue;
    const char* names = at(sections[table.sh_link].sh_offset);
    int files = 0, file = -1;
    for (size_t offset = 0; offset < table.sh_size; offset += sizeof(ElfW(Sym))) {
      ElfW(Sym) symbol;
      std::memcpy(&symbol, at(table.sh_offset + offset), sizeof(symbol));
      const std::string_view name = names + symbol.st_name;
      const int type = ELF64_ST_TYPE(symbol.st_info);  // the same bits in both classes
      const bool local = ELF64_ST_BIND(symbol.st_info) == STB_LOCAL;
      if (type == STT_FILE) file = name.ends_with(".cu") ? files++ : -1;
      if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx >= sections.size()) continue;
      const bool variable = type == STT_OBJECT && name.starts_with(local ? "_ZZ" : kInlineVariable) &&
                            (sections[symbol.st_shndx].sh_flags & SHF_WRITE) != 0;
      if (type == STT_FUNC || variable)
        symbols.push_back({name, bias + symbol.st_value, symbol.st_size, type == STT_FUNC, local, local ? file : -1});
    }
  }
  return symbols;
}

std::string demangle(std::string_view name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(std::string(name).c_str(), nullptr, nullptr, &status), &std::free);
  return status == 0 ? text.get() : std::string(name);
}

KernelSymbols find(const void* kernel) {
  static const std::string image = read_program();
  static const std::vector<Symbol> symbols = read_symbols(image);
  KernelSymbols result;
  const Symbol* own = nullptr;
  for (const Symbol& s : symbols)
    if (s.function && s.address == reinterpret_cast<uintptr_t>(kernel)) own = &s;
  if (own == nullptr) return result;
  result.name = demangle(own->name);
  if (!own->name.starts_with("_Z")) return result;
  const std::string prefix = "_ZZ" + std::string(own->name.substr(2)) + "E";
  for (const Symbol& s : symbols) {
    if (s.function) continue;
    if (s.name.starts_with(prefix)) result.static_shared_bytes += s.bytes;
    const SharedVariable variable{reinterpret_cast<char*>(s.address), s.bytes};
    if (s.file >= 0 && s.file == own->file) result.shared.push_back(variable);
    if (!s.local) result.inline_shared.push_back(variable);
  }
  return result;
}

}  // namespace

const KernelSymbols& symbols_of(const void* kernel) {
  static std::map<const void*, KernelSymbols> known;
  const auto it = known.find(kernel);
  return it != known.end() ? it->second : known.emplace(kernel, find(kernel)).first->second;
}

}  // namespace gradlibra::emulator
