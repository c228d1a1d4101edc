// SPDX-License-Identifier: MIT
// In the place of nccl_communicator.cpp where the build found no NCCL.
#include "runtime/distributed/nccl_communicator.h"

namespace gradlibra {

bool has_nccl() { return false; }

std::unique_ptr<Communicator> make_nccl_communicator(Context&, HostGroup&, double) {
  throw std::runtime_error(
      "ranks on GPUs need NCCL, which this program was built without: install libnccl-dev from NVIDIA's repository and "
      "build again, or add --device cpu");
}

}  // namespace gradlibra
