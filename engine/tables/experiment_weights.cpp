// SPDX-License-Identifier: MIT
#include "engine/tables/experiment_weights.h"

#include <fmt/format.h>

#include <limits>
#include <span>
#include <stdexcept>

#include "runtime/base/files.h"
#include "runtime/base/xxh64.h"

namespace gradlibra {
namespace {

std::string hash_of_file(const std::filesystem::path& path) {
  const std::string bytes = read_file(path, std::numeric_limits<int64_t>::max());
  return xxh64_hex(std::as_bytes(std::span(bytes)));
}

}  // namespace

const StartWeights::Known& StartWeights::known(const std::string& file) {
  const auto found = known_.find(file);
  if (found != known_.end() && !found->second.hash.empty()) return found->second;
  Known& now = known_[file];
  const std::filesystem::path path = folder_ / file;
  if (file.empty())
    now = {kNoWeights, "a run from random weights"};
  else if (read_files_ && std::filesystem::is_regular_file(path))
    now = {hash_of_file(path), path.string()};
  return now;
}

std::string StartWeights::hash(const std::string& file) { return known(file).hash; }

void StartWeights::require(const std::string& file, const std::string& hash, const std::string& what,
                           const std::string& remedy) {
  if (hash.empty()) return;
  const Known& is = known(file);
  if (is.hash.empty())
    known_[file] = {hash, what};
  else if (is.hash != hash)
    throw std::runtime_error(fmt::format("{} began from other weights (XXH64 {}) than those of {} (XXH64 {}): {}", what,
                                         hash, is.whose, is.hash, remedy));
}

}  // namespace gradlibra
