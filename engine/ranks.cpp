// SPDX-License-Identifier: MIT
#include "engine/ranks.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "engine/program.h"
#include "runtime/distributed/mpi_communicator.h"

namespace gradlibra {

namespace {

// On the watchdog's thread, while another waits for the lost rank: there is no other way out of a collective.
void leave_at_once(const std::string& program, const LostRank& lost) {
  const std::string text = program + ": " + to_string(lost) + "\n";
  if (::write(STDERR_FILENO, text.data(), text.size()) < 0) {
    // There is nobody to tell.
  }
  ::_exit(lost.exit_code > 0 ? lost.exit_code : kLostRank);
}

// Seconds for a sum of `values` floats, the second time: the first one makes buffers and connections.
double seconds_of_sum(Context& context, Communicator& communicator, int64_t values) {
  Tensor ones = context.zeros({values});
  double seconds = 0;
  for (int i = 0; i < 2; ++i) {
    communicator.barrier();
    const auto start = std::chrono::steady_clock::now();
    communicator.sum(ones.view());
    context.synchronize();
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return seconds;
}

}  // namespace

void add_rank_options(CLI::App& app, LaunchFlags& flags) {
  app.add_option("--rank", flags.rank,
                 "this process's number among all ranks, from 0; not given: torchrun's, Open MPI's or SLURM's "
                 "environment, else one process")
      ->check(CLI::NonNegativeNumber)
      ->type_name("R");
  app.add_option("--world-size", flags.world_size, "how many ranks there are; not given: as --rank")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  app.add_option("--local-rank", flags.local_rank, "its number on this host; not given: that of --rank")
      ->check(CLI::NonNegativeNumber)
      ->type_name("L");
  app.add_option("--master", flags.master, "where rank 0 can be reached; not given: rank 0 tells its addresses")
      ->type_name("HOST[:PORT]");
}

Ranks::Ranks(CLI::App& app, const Launch& launch, const DistributedConfig& config)
    : app_(app), program_(app.get_name()), launch_(launch) {
  if (launch_.world_size == 1) {
    communicator_ = std::make_unique<SingleProcess>();
    return;
  }
  app_.name(fmt::format("{}: rank {} on {}", program_, launch_.rank, host_name()));
  communicator_ = make_mpi_communicator(launch_);
  Watchdog::Options options{.timeout_seconds = config.timeout, .master_address = launch_.master_address};
  options.on_loss = [who = app_.get_name()](const LostRank& lost) { leave_at_once(who, lost); };
  watchdog_ = std::make_unique<Watchdog>(*communicator_, std::move(options));
}

Ranks::~Ranks() = default;

void Ranks::finish() {
  communicator_->barrier();
  if (watchdog_) watchdog_->finish();
  communicator_->finish();
}

int Ranks::run(const std::function<int()>& body) {
  const auto named = [&] {
    if (watchdog_) app_.name(fmt::format("{} at step {}", app_.get_name(), watchdog_->step()));
  };
  try {
    const int code = body();
    finish();
    return code;
  } catch (const AgreedError&) {
    named();
    if (!alone()) finish();
    throw;
  } catch (const std::exception& error) {
    named();
    if (watchdog_) watchdog_->fail(error.what(), exit_code_of(error));
    throw;
  }
}

std::string Ranks::introduction(Context& context) {
  if (alone()) return "";
  if (!context.on_host())
    throw AgreedError("several ranks run on CPUs so far: add --device cpu, or start one process for this GPU");
  constexpr int64_t kValues = int64_t{1} << 18;
  const std::vector<std::string> devices = communicator_->gather(context.device_name());
  const std::vector<std::string> versions = communicator_->gather(GRADLIBRA_VERSION);
  const std::vector<std::string>& hosts = watchdog_->hosts();
  for (size_t r = 1; r < versions.size(); ++r)
    if (versions[r] != versions[0])
      throw AgreedError(fmt::format("rank 0 on {} is gradlibra {}, rank {} on {} is {}: all must be the same program",
                                    hosts[0], versions[0], r, hosts[r], versions[r]));
  std::string text = fmt::format("ranks: {} by {}, gradlibra {}, {}\n", devices.size(), launch_.source,
                                 GRADLIBRA_VERSION, communicator_->library());
  for (size_t r = 0; r < devices.size(); ++r) text += fmt::format("  rank {} on {}: {}\n", r, hosts[r], devices[r]);
  const double seconds = seconds_of_sum(context, *communicator_, kValues);
  // Each rank sends and receives 2 (W - 1) / W of the array: what its connection carried.
  const auto ranks = static_cast<double>(devices.size());
  const double bytes = 2 * (ranks - 1) / ranks * static_cast<double>(kValues) * sizeof(float);
  text += fmt::format("  a sum of {} MB over all ranks takes {:.3g} ms, {:.3g} GB/s a rank", kValues * 4 >> 20,
                      1e3 * seconds, bytes / seconds / 1e9);
  return text;
}

}  // namespace gradlibra
