// SPDX-License-Identifier: MIT
// Which rank a process is, from what each launcher leaves in the environment; and every contradiction by its name.
#include "runtime/distributed/launch.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/messages.h"

namespace gradlibra {
namespace {

using Variables = std::map<std::string, std::string>;

Launch launch(const Variables& variables, const LaunchFlags& flags = {}) {
  return find_launch(flags, [&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end() || found->second.empty()) return std::nullopt;
    return found->second;
  });
}

std::string refusal(const Variables& variables, const LaunchFlags& flags = {}) {
  return message_of<std::invalid_argument>([&] { (void)launch(variables, flags); });
}

const Variables kTorchrun{
    {"RANK", "5"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "10.0.0.1"}, {"MASTER_PORT", "29500"}};
const Variables kOpenMpi{
    {"OMPI_COMM_WORLD_RANK", "2"}, {"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "0"}};
const Variables kSlurm{{"SLURM_PROCID", "3"},
                       {"SLURM_NTASKS", "4"},
                       {"SLURM_LOCALID", "1"},
                       {"SLURM_STEP_ID", "0"},
                       {"SLURM_STEP_NODELIST", "gpu[07-08]"}};

void expect(const Launch& got, int rank, int world_size, int local_rank, const std::string& source) {
  EXPECT_EQ(got.rank, rank);
  EXPECT_EQ(got.world_size, world_size);
  EXPECT_EQ(got.local_rank, local_rank);
  EXPECT_EQ(got.source, source);
}

Variables with(Variables variables, const Variables& more) {
  for (const auto& [name, value] : more) variables[name] = value;
  return variables;
}

TEST(Launch, ReadsWhatStartedTheProcess) {
  expect(launch({}), 0, 1, 0, "one process");
  const Launch torchrun = launch(kTorchrun);
  expect(torchrun, 5, 8, 1, "torchrun's environment");
  EXPECT_EQ(torchrun.master_address, "10.0.0.1");
  EXPECT_EQ(torchrun.master_port, 29500);
  const Launch mpi = launch(kOpenMpi);
  expect(mpi, 2, 4, 0, "Open MPI");
  EXPECT_EQ(mpi.master_address, "");
  const Launch slurm = launch(kSlurm);
  expect(slurm, 3, 4, 1, "SLURM");
  EXPECT_EQ(slurm.master_address, "gpu07");
  EXPECT_EQ(launch(with(kSlurm, {{"MASTER_ADDR", "login"}})).master_address, "login");
  EXPECT_EQ(launch(with(kSlurm, {{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}})).world_size, 2);
}

// What ranks need to meet without MPI.
TEST(Launch, KnowsItsJobAndItsPort) {
  const Variables job = with(kSlurm, {{"SLURM_JOB_ID", "4711"}, {"SLURM_STEP_ID", "2"}});
  EXPECT_EQ(launch(job).job, "4711.2");
  EXPECT_EQ(launch(job).master_port, 20000 + (4711 * 8 + 2) % 10000);
  EXPECT_NE(launch(with(job, {{"SLURM_JOB_ID", "4712"}})).master_port, launch(job).master_port);
  // The interactive step of `salloc`, and a federated job.
  const Launch interactive = launch(with(job, {{"SLURM_STEP_ID", "4294967290"}}));
  EXPECT_EQ(interactive.job, "4711.4294967290");
  EXPECT_EQ(interactive.master_port, 20000 + (4711LL * 8 + 4294967290LL) % 10000);
  EXPECT_EQ(launch(with(job, {{"SLURM_JOB_ID", "3221225999"}})).job, "3221225999.2");
  EXPECT_EQ(launch(with(job, {{"SLURM_JOB_ID", "2147483647"}})).master_port, 20000 + (2147483647LL * 8 + 2) % 10000);
  EXPECT_EQ(launch(with(job, {{"MASTER_PORT", "1234"}})).master_port, 1234);
  EXPECT_EQ(launch(kTorchrun).job, "");
  EXPECT_EQ(launch(with(kTorchrun, {{"SLURM_JOB_ID", "4711"}})).job, "4711");
  const Variables elastic = with(kTorchrun, {{"TORCHELASTIC_RUN_ID", "mine"}});
  EXPECT_EQ(launch(elastic).job, "mine");
  EXPECT_EQ(launch(with(elastic, {{"TORCHELASTIC_USE_AGENT_STORE", "True"}})).master_port, 29501);
  EXPECT_EQ(launch(with(elastic, {{"TORCHELASTIC_USE_AGENT_STORE", "False"}})).master_port, 29500);
}

TEST(Launch, KnowsWhetherAnMpiStartedIt) {
  EXPECT_TRUE(launch(kOpenMpi).by_mpi);
  EXPECT_FALSE(launch(kTorchrun).by_mpi);
  EXPECT_FALSE(launch(kSlurm).by_mpi);
  EXPECT_TRUE(launch(with(kSlurm, {{"PMIX_RANK", "3"}})).by_mpi);
  EXPECT_TRUE(launch(with(kSlurm, {{"PMI_RANK", "3"}})).by_mpi);
  // Of a launcher on each host, which an MPI has started: whatever its number is, that of the host says nothing.
  for (const char* host : {"0", "5"}) {
    const Variables below = with(kTorchrun, {{"PMIX_RANK", host}, {"SLURM_NTASKS", "2"}});
    EXPECT_FALSE(launch(below).by_mpi) << host;
    EXPECT_FALSE(launch(with(kTorchrun, {{"PMI_RANK", host}, {"PMI_SIZE", "2"}})).by_mpi) << host;
  }
  EXPECT_TRUE(launch(with(kTorchrun, {{"PMIX_RANK", "5"}, {"SLURM_NTASKS", "8"}})).by_mpi);
  EXPECT_FALSE(launch(kOpenMpi, {.rank = 2, .world_size = 16}).by_mpi);
  EXPECT_TRUE(launch(kOpenMpi, {.rank = 2, .world_size = 4}).by_mpi);
}

TEST(Launch, FlagsComeFirstAndSlurmLast) {
  const Variables all = with(with(kTorchrun, kSlurm), {});
  expect(launch(all, {.rank = 1, .world_size = 2}), 1, 2, 1, "flags");
  expect(launch(all), 5, 8, 1, "torchrun's environment");
  expect(launch(with(kOpenMpi, kSlurm)), 2, 4, 0, "Open MPI");  // mpirun inside a SLURM job
  EXPECT_EQ(launch({}, {.rank = 1, .world_size = 4, .local_rank = 0}).local_rank, 0);
}

TEST(Launch, MasterOfTheFlags) {
  const auto master = [](const std::string& text) {
    const Launch got = launch({}, {.rank = 0, .world_size = 2, .master = text});
    return got.master_address + " " + std::to_string(got.master_port);
  };
  EXPECT_EQ(master("node1"), "node1 0");
  EXPECT_EQ(master("node1:1234"), "node1 1234");
  EXPECT_EQ(master("fe80::1"), "fe80::1 0");
  EXPECT_EQ(master("[fe80::1]:80"), "fe80::1 80");
  EXPECT_EQ(master("[fe80::1]"), "fe80::1 0");
  EXPECT_EQ(launch(with(kTorchrun, {{"MASTER_ADDR", "[fe80::1]"}})).master_address, "fe80::1");
  for (const char* bad : {"node1:", "node1:0", "node1:70000", "node1:x", ":80"})
    EXPECT_HAS(refusal({}, {.rank = 0, .world_size = 2, .master = bad}), "--master is '" + std::string(bad) + "'");
}

TEST(Launch, NamesTheVariableThatIsMissingOrWrong) {
  EXPECT_EQ(refusal({{"RANK", "0"}}), "RANK is set but WORLD_SIZE is not");
  EXPECT_EQ(refusal({{"WORLD_SIZE", "2"}}), "WORLD_SIZE is set but RANK is not");
  EXPECT_EQ(refusal({{"RANK", "0"}, {"WORLD_SIZE", "2"}}), "RANK is set but LOCAL_RANK is not");
  EXPECT_EQ(refusal(with(kTorchrun, {{"RANK", "five"}})), "RANK is 'five', not a whole number of at least 0");
  EXPECT_EQ(refusal(with(kTorchrun, {{"RANK", "-1"}})), "RANK is '-1', not a whole number of at least 0");
  EXPECT_EQ(refusal(with(kTorchrun, {{"RANK", "99999999999"}})),
            "RANK is '99999999999', not a whole number of at least 0");
  EXPECT_EQ(refusal(with(kTorchrun, {{"WORLD_SIZE", "4"}})), "RANK is 5, but WORLD_SIZE is 4: ranks go from 0 to 3");
  EXPECT_EQ(refusal(with(kTorchrun, {{"WORLD_SIZE", "0"}})), "WORLD_SIZE is 0, must be at least 1");
  EXPECT_EQ(refusal(with(kTorchrun, {{"MASTER_PORT", "0"}})), "MASTER_PORT is 0, not 1 to 65535");
  EXPECT_HAS(refusal(with(kTorchrun, {{"LOCAL_RANK", "6"}})), "LOCAL_RANK is 6, but RANK is 5");
  EXPECT_HAS(refusal(with(kOpenMpi, {{"OMPI_COMM_WORLD_RANK", "4"}})), "OMPI_COMM_WORLD_RANK is 4");
  EXPECT_HAS(refusal(with(kSlurm, {{"SLURM_PROCID", "4"}})), "SLURM_PROCID is 4, but SLURM_NTASKS is 4");
  EXPECT_HAS(refusal(with(kSlurm, {{"SLURM_STEP_NODELIST", "gpu[7-"}})), "SLURM_STEP_NODELIST: ");
  EXPECT_HAS(refusal(with(kTorchrun, kOpenMpi)), "RANK is 5, but OMPI_COMM_WORLD_RANK is 2");
  EXPECT_EQ(refusal({}, {.rank = 0}), "--rank is given but --world-size is not");
  EXPECT_EQ(refusal({}, {.world_size = 2}), "--world-size is given but --rank is not");
  EXPECT_HAS(refusal({}, {.local_rank = 0}), "--local-rank is given but");
  EXPECT_HAS(refusal({}, {.master = "a"}), "--master is given but");
  EXPECT_HAS(refusal({}, {.rank = 2, .world_size = 2}), "--rank is 2, but --world-size is 2");
}

// A batch script has the variables of a task, whether or not it starts any.
TEST(Launch, ABatchScriptIsOneProcessAndSaysSo) {
  Variables batch = kSlurm;
  batch.erase("SLURM_STEP_ID");
  batch["SLURM_PROCID"] = "0";
  const Launch got = launch(batch);
  expect(got, 0, 1, 0, "one process");
  EXPECT_HAS(got.note, "SLURM_NTASKS is 4, but srun did not start this process");
  EXPECT_EQ(launch({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}}).note, "");
}

TEST(Launch, NodeLists) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(expand_node_list("node1"), (Names{"node1"}));
  EXPECT_EQ(expand_node_list("node[01-03,07]"), (Names{"node01", "node02", "node03", "node07"}));
  EXPECT_EQ(expand_node_list("a[9-11],b,c2"), (Names{"a9", "a10", "a11", "b", "c2"}));
  EXPECT_EQ(expand_node_list("r[1-2]n[08-09].x"), (Names{"r1n08.x", "r1n09.x", "r2n08.x", "r2n09.x"}));
  EXPECT_EQ(expand_node_list("n[000-400]").back(), "n400");
  for (const char* bad : {"", "a,,b", "a,", "n[1-", "n1-2]", "n[2-1]", "n[]", "n[1,,2]", "n[a]", "n[1-2-3]",
                          "n[0-9999999]", "n[1-300]m[1-300]"})
    EXPECT_THROW((void)expand_node_list(bad), std::invalid_argument) << bad;
}

}  // namespace
}  // namespace gradlibra
