// SPDX-License-Identifier: MIT
// Which rank of how many this process is, by what started it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gradlibra {

struct Launch {
  int rank = 0, world_size = 1;
  int local_rank = 0;          // among the ranks of this host
  std::string master_address;  // where rank 0 can be met; empty: the launcher does not say
  int master_port = 0;         // 0: the launcher does not say
  std::string source = "one process";
  bool by_mpi = false;      // whether an MPI can connect it to the others: mpirun, or srun --mpi
  std::string job;          // tells it from other jobs on the same machines; empty: the launcher has no name for it
  bool share_gpus = false;  // ranks of a host may have the same GPU
  std::string note;         // to be shown: a launcher's trace that was not followed, and why
};

// As given on a command line; negative and empty: not given.
struct LaunchFlags {
  int rank = -1, world_size = -1, local_rank = -1;
  std::string master;  // HOST or HOST:PORT
  bool share_gpus = false;
};

// An environment variable's value; none if it is not set or empty.
using ReadVariable = std::function<std::optional<std::string>(const char* name)>;
[[nodiscard]] std::optional<std::string> environment_variable(const char* name);

// The first of these that is there: the flags; torchrun's environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR,
// MASTER_PORT); Open MPI's (OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK); SLURM's, where srun started the process
// (SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID, SLURM_STEP_NODELIST); else one process. MASTER_ADDR and MASTER_PORT count
// for all but the flags, which have their own; a SLURM job without them meets on its first host, at a port that follows
// from its number. torchrun itself may listen at MASTER_PORT (TORCHELASTIC_USE_AGENT_STORE): then it is the next one.
// std::invalid_argument names the flag or variable that is missing, is no number, or contradicts another.
[[nodiscard]] Launch find_launch(const LaunchFlags& flags = {}, const ReadVariable& variable = environment_variable);

// SLURM's short form of host names, written out: "node[01-03,07],login" is node01, node02, node03, node07, login; each
// bracket of a name runs through its numbers, the last one fastest. std::invalid_argument says what does not parse, or
// that it is more than 65536 names.
[[nodiscard]] std::vector<std::string> expand_node_list(std::string_view list);

// This machine's name, as it is told to others.
[[nodiscard]] std::string host_name();

}  // namespace gradlibra
