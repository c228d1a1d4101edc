// SPDX-License-Identifier: MIT
// Which weights the runs of a table start from: rows are compared that began alike.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>

namespace gradlibra {

// A run's weights by a hash of their file, beside deciding_keys() in a table's JSON file. Not there: nobody knows.
inline constexpr const char* kStartWeights = "start_weights";
// For a run that starts from no file.
inline constexpr const char* kNoWeights = "none";

class StartWeights {
 public:
  // `folder`: that of the runs. Without `read_files`, where nothing is to begin, only what `require` is told is known.
  StartWeights(std::filesystem::path folder, bool read_files) : folder_(std::move(folder)), read_files_(read_files) {}

  // XXH64 of the whole file, read once; kNoWeights without a name; empty: not known. `file`: train.pretrained of a run.
  [[nodiscard]] std::string hash(const std::string& file);
  // `what` began from these weights under that name. std::runtime_error if others are known of it: "`what` began from
  // other weights .. : `remedy`". An empty hash says nothing.
  void require(const std::string& file, const std::string& hash, const std::string& what, const std::string& remedy);

 private:
  struct Known {
    std::string hash, whose;
  };
  [[nodiscard]] const Known& known(const std::string& file);

  std::filesystem::path folder_;
  bool read_files_;
  std::map<std::string, Known> known_;
};

}  // namespace gradlibra
