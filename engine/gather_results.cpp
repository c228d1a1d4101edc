// SPDX-License-Identifier: MIT
#include "engine/gather_results.h"

#include <fmt/format.h>

#include "runtime/distributed/launch.h"

namespace gradlibra {

std::vector<std::string> gather_results(Communicator& ranks, const std::function<std::string()>& own) {
  if (ranks.world_size() == 1) return {own()};
  // A first letter tells results and errors apart.
  std::string text, message;
  try {
    text = "r" + own();
  } catch (const std::bad_alloc&) {
    message = "out of memory; use a smaller loader.batch_size or image size";
  } catch (const std::exception& error) {
    message = error.what();
  }
  if (!message.empty()) text = fmt::format("erank {} on {}: {}", ranks.rank(), host_name(), message);
  std::vector<std::string> all = ranks.gather(text);
  for (size_t r = 0; r < all.size(); ++r)
    if (all[r][0] == 'e') throw AgreedError(static_cast<int>(r) == ranks.rank() ? message : all[r].substr(1));
  for (std::string& result : all) result.erase(0, 1);
  return all;
}

}  // namespace gradlibra
