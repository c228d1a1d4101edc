// SPDX-License-Identifier: MIT
// In the place of mpi_communicator.cpp where the build found no MPI.
#include <fmt/format.h>

#include "runtime/distributed/mpi_communicator.h"

namespace gradlibra {

bool has_mpi() { return false; }

std::unique_ptr<Communicator> make_mpi_communicator(const Launch& launch) {
  throw std::runtime_error(
      fmt::format("this is rank {} of {} by {}, but the program was built without MPI and runs as one process: install "
                  "libopenmpi-dev and build again, or start it alone",
                  launch.rank, launch.world_size, launch.source));
}

}  // namespace gradlibra
