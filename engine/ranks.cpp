// SPDX-License-Identifier: MIT
#include "engine/ranks.h"

#include <elf.h>
#include <fmt/format.h>
#include <link.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include "engine/option_checks.h"
#include "engine/program.h"
#include "engine/signals.h"
#include "runtime/distributed/mpi_communicator.h"
#include "runtime/distributed/nccl_communicator.h"
#include "runtime/distributed/tcp_group.h"

namespace gradlibra {

namespace {

void say(const std::string& program, const LostRank& lost) {
  const std::string text = program + ": " + to_string(lost) + "\n";
  if (::write(STDERR_FILENO, text.data(), text.size()) < 0) {
    // There is nobody to tell.
  }
}

// On the watchdog's thread, while another waits for the lost rank: there is no other way out of a collective.
[[noreturn]] void leave_at_once(const LostRank& lost) { ::_exit(lost.exit_code > 0 ? lost.exit_code : kLostRank); }

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

// The same for all processes of a machine, whatever each calls its host.
std::string machine() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  return std::getline(file, id) ? id : host_name();
}

// NCCL refuses two ranks of a host on one GPU: it is told that each is a host of its own, and shares no memory.
void pretend_own_host(int rank) {
  ::setenv("NCCL_HOSTID", fmt::format("{}-rank-{}", host_name(), rank).c_str(), /*overwrite=*/0);
  ::setenv("NCCL_P2P_DISABLE", "1", 0);
  ::setenv("NCCL_SHM_DISABLE", "1", 0);
}

// NCCL's ranks of a host meet in shared memory, of which containers have 64 MB unless they are told otherwise: what
// then fails is told by NCCL as "unhandled system error". Empty, or what to do.
std::string shared_memory_note() {
  constexpr uint64_t kEnough = 256ULL << 20;
  struct statvfs place {};
  if (std::getenv("NCCL_SHM_DISABLE") != nullptr || ::statvfs("/dev/shm", &place) != 0) return "";
  const uint64_t bytes = static_cast<uint64_t>(place.f_blocks) * place.f_frsize;
  if (bytes >= kEnough) return "";
  return fmt::format(
      "/dev/shm has {} MB, which may be too little for NCCL: start the container with --shm-size=1g or --ipc=host, or "
      "set NCCL_SHM_DISABLE=1",
      bytes >> 20);
}

// Of this program's file, as the linker has noted it: another for each build; empty where it has not.
std::string build_id() {
  std::string id;
  const auto note = [](dl_phdr_info* object, size_t, void* to) {
    for (int i = 0; i < object->dlpi_phnum; ++i) {
      const auto& header = object->dlpi_phdr[i];
      if (header.p_type != PT_NOTE) continue;
      const auto padded = [](size_t size) { return (size + 3) / 4 * 4; };
      // NOLINTNEXTLINE(performance-no-int-to-ptr): the loader tells addresses as numbers
      const auto* at = reinterpret_cast<const unsigned char*>(object->dlpi_addr + header.p_vaddr);
      for (const auto* end = at + header.p_memsz; at + sizeof(ElfW(Nhdr)) <= end;) {
        ElfW(Nhdr) one;
        std::memcpy(&one, at, sizeof one);
        const unsigned char *name = at + sizeof one, *value = name + padded(one.n_namesz);
        if (one.n_type == NT_GNU_BUILD_ID && one.n_namesz == 4 && std::memcmp(name, "GNU", 4) == 0)
          for (size_t b = 0; b < one.n_descsz; ++b) *static_cast<std::string*>(to) += fmt::format("{:02x}", value[b]);
        at = value + padded(one.n_descsz);
      }
    }
    return 1;  // the first object is the program; no other is asked for
  };
  dl_iterate_phdr(note, &id);
  return id;
}

// Rank 0 has two connections to each other rank.
void raise_descriptor_limit() {
  rlimit limit{};
  constexpr rlim_t kEnough = 65536;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kEnough) return;
  limit.rlim_cur = std::min(limit.rlim_max, kEnough);
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

void add_rank_options(CLI::App& app, LaunchFlags& flags) {
  app.add_option("--rank", flags.rank,
                 "this process's number among all ranks, from 0; not given: torchrun's, Open MPI's or SLURM's "
                 "environment, else one process")
      ->check(at_least_zero())
      ->type_name("R");
  app.add_option("--world-size", flags.world_size, "how many ranks there are; not given: as --rank")
      ->check(above_zero())
      ->type_name("N");
  app.add_option("--local-rank", flags.local_rank, "its number on this host; not given: that of --rank")
      ->check(at_least_zero())
      ->type_name("L");
  app.add_option("--master", flags.master, "where rank 0 can be reached; not given: rank 0 tells its addresses")
      ->type_name("HOST[:PORT]");
  app.add_flag("--share-gpus", flags.share_gpus,
               "ranks of a host may have the same GPU: slow, to try several ranks where there is one GPU");
}

double bus_bandwidth(double bytes, int ranks, double seconds) { return 2.0 * (ranks - 1) / ranks * bytes / seconds; }

Ranks::Ranks(CLI::App& app, const Launch& launch, const DistributedConfig& config,
             const std::function<void()>& before_leaving)
    : app_(app),
      program_(app.get_name()),
      launch_(launch),
      start_timeout_(config.start_timeout),
      timeout_(config.timeout) {
  if (alone()) {
    communicator_ = &single_;
    return;
  }
  app_.name(fmt::format("{}: rank {} on {}", program_, launch_.rank, host_name()));
  raise_descriptor_limit();
  if (launch_.by_mpi && has_mpi()) {
    limit(start_timeout_, "not all ranks have come to MPI's start");
    mpi_ = make_mpi_communicator(launch_);
  } else {
    tcp_ = make_tcp_group(launch_, start_timeout_);  // which keeps the time itself, and names who has not come
  }
  hosts_ = mpi_ ? mpi_.get() : tcp_.get();
  limit(start_timeout_ + Watchdog::kMeetingSeconds, "not all ranks have come to the watchdog's start");
  Watchdog::Options options{.timeout_seconds = config.timeout,
                            .stall_seconds = config.stall_timeout,
                            .master_address = launch_.master_address};
  options.on_news = [who = app_.get_name()](const LostRank& lost) { say(who, lost); };
  options.on_loss = [before_leaving](const LostRank& lost) {
    if (before_leaving) before_leaving();
    leave_at_once(lost);
  };
  watchdog_ = std::make_unique<Watchdog>(*hosts_, std::move(options));
  deadline_ = nullptr;
}

void Ranks::limit(double seconds, const std::string& why) {
  deadline_ = nullptr;
  const std::string text =
      fmt::format("{}: {} within {:.4g} s: one was stopped, or its network is down\n", app_.get_name(), why, seconds);
  deadline_ = std::make_unique<Deadline>(seconds, [text] {
    if (::write(STDERR_FILENO, text.data(), text.size()) < 0) {
      // There is nobody to tell.
    }
    ::_exit(kLostRank);
  });
}

Ranks::~Ranks() = default;

void Ranks::finish() {
  if (alone()) return;
  hosts_->barrier();
  watchdog_->also_watch({});
  if (nccl_) nccl_->finish();
  limit(timeout_, "all work is done, but not all ranks have come to the end");
  watchdog_->finish();
  hosts_->finish();
  deadline_ = nullptr;
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
    if (!alone()) {
      leave_only_to_who_insists();  // else the first to go takes the others' last words with it
      finish();
    }
    throw;
  } catch (const std::exception& error) {
    named();
    tell(error);
    throw;
  }
}

void Ranks::tell(const std::exception& error) {
  if (!watchdog_ || told_ || dynamic_cast<const AgreedError*>(&error) != nullptr) return;
  told_ = true;
  if (dynamic_cast<const PeerLost*>(&error) != nullptr) {
    // The watchdog finds out who is at fault, a rank that is gone or this one, and ends the process.
    watchdog_->report(error.what());
    std::this_thread::sleep_for(std::chrono::duration<double>(2 * timeout_));
    const LostRank itself{launch_.rank, host_name(), watchdog_->step(), error.what()};
    say(app_.get_name(), itself);
    leave_at_once(itself);
  }
  const ExitCode code = exit_code_of(error);
  watchdog_->fail(error.what(), code);
  std::thread([code, text = fmt::format("{}: {}\n", app_.get_name(), error.what())] {
    std::this_thread::sleep_for(std::chrono::seconds(30));
    if (::write(STDERR_FILENO, text.data(), text.size()) < 0) {
      // There is nobody to tell.
    }
    ::_exit(code);
  }).detach();
}

void Ranks::require_one_version() {
  const std::vector<std::string> versions = hosts_->gather(GRADLIBRA_VERSION), builds = hosts_->gather(build_id());
  const std::vector<std::string>& names = watchdog_->hosts();
  for (size_t r = 1; r < builds.size(); ++r)
    if (versions[r] == versions[0] && builds[r] != builds[0])
      throw AgreedError(fmt::format(
          "rank 0 on {} and rank {} on {} run different builds of gradlibra {} ({:.8}, {:.8}): all must be the "
          "same program",
          names[0], r, names[r], versions[0], builds[0], builds[r]));
  for (size_t r = 1; r < versions.size(); ++r)
    if (versions[r] != versions[0])
      throw AgreedError(fmt::format("rank 0 on {} is gradlibra {}, rank {} on {} is {}: all must be the same program",
                                    names[0], versions[0], r, names[r], versions[r]));
}

std::vector<std::string> Ranks::require_one_kind(const Context& context) {
  const std::vector<std::string>& names = watchdog_->hosts();
  const std::string why = context.why_no_gpu().empty() ? "" : fmt::format(" ({})", context.why_no_gpu());
  const std::vector<std::string> kinds = hosts_->gather(context.on_host() ? "CPU" : "GPU");
  std::vector<std::string> devices = hosts_->gather(context.device_name() + why);
  for (size_t r = 1; r < kinds.size(); ++r)
    if (kinds[r] != kinds[0])
      throw AgreedError(
          fmt::format("rank 0 on {} has {}, rank {} on {} has {}: all ranks need a GPU, or give all --device cpu",
                      names[0], devices[0], r, names[r], devices[r]));
  if (context.on_host() && !mpi_)
    throw AgreedError(
        fmt::format("{} ranks on CPUs by {}: MPI must connect them: start them with mpirun, or srun "
                    "--mpi=pmix where SLURM knows this MPI{}",
                    launch_.world_size, launch_.source,
                    has_mpi() ? "" : ", and install libopenmpi-dev and build this program again"));
  return devices;
}

void Ranks::require_own_gpus(const Context& context) {
  const std::vector<std::string>& names = watchdog_->hosts();
  const std::vector<std::string> flags = hosts_->gather(launch_.share_gpus ? "may" : "may not"),
                                 places = hosts_->gather(machine() + " " + context.bus_id());
  for (size_t r = 1; r < flags.size(); ++r)
    if (flags[r] != flags[0])
      throw AgreedError(
          fmt::format("rank 0 on {} {} share its GPU with another, rank {} on {} {}: give --share-gpus to "
                      "all ranks, or to none",
                      names[0], flags[0], r, names[r], flags[r]));
  if (launch_.share_gpus) return pretend_own_host(launch_.rank);
  for (size_t r = 1; r < places.size(); ++r)
    for (size_t other = 0; other < r; ++other)
      if (places[other] == places[r])
        throw AgreedError(
            fmt::format("ranks {} and {} on {} have the same GPU ({}): start no more ranks than there "
                        "are GPUs, or add --share-gpus for a trial",
                        other, r, names[r], places[r].substr(places[r].rfind(' ') + 1)));
}

std::string Ranks::connect(Context& context) {
  if (alone()) return "";
  require_one_version();
  const std::vector<std::string> devices = require_one_kind(context), buses = hosts_->gather(context.bus_id());
  communicator_ = mpi_.get();
  if (!context.on_host()) {
    require_own_gpus(context);
    const std::vector<std::string> notes = hosts_->gather(shared_memory_note());
    for (size_t r = 0; r < notes.size() && launch_.rank == 0; ++r)
      if (!notes[r].empty()) fmt::print(stderr, "warning: rank {} on {}: {}\n", r, watchdog_->hosts()[r], notes[r]);
    nccl_ = make_nccl_communicator(context, *hosts_, start_timeout_);
    communicator_ = nccl_.get();
    watchdog_->also_watch([this] { return nccl_->failure(); });
  }
  constexpr int64_t kValues = int64_t{1} << 18;
  const std::string versions = context.library_versions().empty() ? "" : ", " + context.library_versions();
  std::string text = fmt::format("ranks: {} by {}, gradlibra {}, {}{}\n", devices.size(), launch_.source,
                                 GRADLIBRA_VERSION, communicator_->library(), versions);
  for (size_t r = 0; r < devices.size(); ++r)
    text += fmt::format("  rank {} on {}: {}{}{}\n", r, watchdog_->hosts()[r], devices[r], buses[r].empty() ? "" : ", ",
                        buses[r]);
  const double seconds = seconds_of_sum(context, *communicator_, kValues);
  const double bytes = static_cast<double>(kValues) * sizeof(float);
  text += fmt::format("  a sum of {} MB over all ranks takes {:.3g} ms, {:.3g} GB/s a rank", kValues * 4 >> 20,
                      1e3 * seconds, 1e-9 * bus_bandwidth(bytes, launch_.world_size, seconds));
  return text;
}

}  // namespace gradlibra
