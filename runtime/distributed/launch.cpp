// SPDX-License-Identifier: MIT
#include "runtime/distributed/launch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <stdexcept>

#include "runtime/base/numbers.h"

namespace gradlibra {

namespace {

constexpr size_t kMostHosts = 65536;

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

std::optional<int> whole_number(std::string_view text) {
  const std::optional<int> value = parse_number<int>(text);
  return value && *value >= 0 ? value : std::nullopt;
}

class Variables {
 public:
  explicit Variables(const ReadVariable& read) : read_(read) {}
  [[nodiscard]] bool has(const char* name) const { return read_(name).has_value(); }
  [[nodiscard]] std::string text(const char* name) const { return read_(name).value_or(""); }
  [[nodiscard]] std::optional<int> number(const char* name) const {
    const std::optional<std::string> text = read_(name);
    if (!text) return std::nullopt;
    const std::optional<int> value = whole_number(*text);
    if (!value) refuse(fmt::format("{} is '{}', not a whole number of at least 0", name, *text));
    return value;
  }
  // `because` is the variable that makes this one necessary.
  [[nodiscard]] int needed(const char* name, const char* because) const {
    const std::optional<int> value = number(name);
    if (!value) refuse(fmt::format("{} is set but {} is not", because, name));
    return *value;
  }

 private:
  const ReadVariable& read_;
};

// "HOST", "HOST:PORT" or "[IPV6]:PORT" into a launch; `what` names the flag or variable.
void set_master(Launch& launch, const std::string& text, const char* what) {
  const size_t bracket = text.rfind(']');
  size_t colon = text.rfind(':');
  // An IPv6 address without brackets has no port.
  if (colon != std::string::npos && bracket == std::string::npos && text.find(':') != colon) colon = std::string::npos;
  if (colon != std::string::npos && bracket != std::string::npos && colon < bracket) colon = std::string::npos;
  launch.master_address = text.substr(0, colon);
  if (text.starts_with('[') && bracket != std::string::npos) launch.master_address = text.substr(1, bracket - 1);
  if (launch.master_address.empty()) refuse(fmt::format("{} is '{}': no host", what, text));
  if (colon == std::string::npos) return;
  const std::optional<int> port = whole_number(std::string_view(text).substr(colon + 1));
  if (!port || *port < 1 || *port > 65535)
    refuse(fmt::format("{} is '{}': the port behind the colon is not 1 to 65535", what, text));
  launch.master_port = *port;
}

void set_master(Launch& launch, const Variables& variables) {
  if (variables.has("MASTER_ADDR")) launch.master_address = variables.text("MASTER_ADDR");
  std::string& address = launch.master_address;
  if (address.starts_with('[') && address.ends_with(']')) address = address.substr(1, address.size() - 2);
  if (const auto port = variables.number("MASTER_PORT")) {
    if (*port < 1 || *port > 65535) refuse(fmt::format("MASTER_PORT is {}, not 1 to 65535", *port));
    launch.master_port = *port;
  }
}

struct RankNames {
  const char *rank, *world_size, *local_rank;
};

void check(const Launch& launch, const RankNames& names) {
  if (launch.world_size < 1) refuse(fmt::format("{} is {}, must be at least 1", names.world_size, launch.world_size));
  if (launch.rank >= launch.world_size)
    refuse(fmt::format("{} is {}, but {} is {}: ranks go from 0 to {}", names.rank, launch.rank, names.world_size,
                       launch.world_size, launch.world_size - 1));
  if (launch.local_rank > launch.rank)  // those of a host are some of all, in the same order
    refuse(fmt::format("{} is {}, but {} is {}: a rank is never below its number on its host", names.local_rank,
                       launch.local_rank, names.rank, launch.rank));
}

// `other` contradicts what was found by the variables of `names`, if it is there.
void check_agrees(const Variables& variables, const RankNames& names, const Launch& launch, const RankNames& other) {
  const auto compare = [&](const char* name, int value, const char* other_name) {
    const auto found = variables.number(other_name);
    if (found && *found != value)
      refuse(fmt::format("{} is {}, but {} is {}: unset those of the launcher that did not start this process", name,
                         value, other_name, *found));
  };
  compare(names.rank, launch.rank, other.rank);
  compare(names.world_size, launch.world_size, other.world_size);
}

constexpr RankNames kTorchrun{"RANK", "WORLD_SIZE", "LOCAL_RANK"};
constexpr const char* kSlurmStep = "SLURM_STEP_ID";
constexpr RankNames kOpenMpi{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"};

Launch from_flags(const LaunchFlags& flags) {
  if (flags.rank < 0) refuse("--world-size is given but --rank is not");
  if (flags.world_size < 0) refuse("--rank is given but --world-size is not");
  Launch launch{.rank = flags.rank, .world_size = flags.world_size, .source = "flags"};
  launch.local_rank = flags.local_rank >= 0 ? flags.local_rank : flags.rank;
  if (!flags.master.empty()) set_master(launch, flags.master, "--master");
  check(launch, {"--rank", "--world-size", "--local-rank"});
  return launch;
}

Launch from_variables(const Variables& variables, const RankNames& names, std::string source) {
  Launch launch{.source = std::move(source)};
  launch.rank = variables.needed(names.rank, names.world_size);
  launch.world_size = variables.needed(names.world_size, names.rank);
  launch.local_rank = variables.needed(names.local_rank, names.rank);
  set_master(launch, variables);
  check(launch, names);
  return launch;
}

Launch from_slurm(const Variables& variables) {
  // In a step of its own a job may have fewer tasks than it was given.
  const char* tasks = variables.has("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
  Launch launch = from_variables(variables, {"SLURM_PROCID", tasks, "SLURM_LOCALID"}, "SLURM");
  // Numbers up to 2^32 - 1, some of which SLURM keeps for steps of its own.
  const auto text = [&](const char* name) { return variables.has(name) ? variables.text(name) : "0"; };
  const auto number = [](const std::string& digits) {
    uint64_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
  };
  const std::string job = text("SLURM_JOB_ID"), step = text(kSlurmStep);
  launch.job = fmt::format("{}.{}", job, step);
  // Below those that systems give to whoever asks for any. Two jobs that share a host seldom meet.
  if (launch.master_port == 0) launch.master_port = 20000 + static_cast<int>((number(job) * 8 + number(step)) % 10000);
  if (!launch.master_address.empty()) return launch;
  for (const char* name : {"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"}) {
    if (!variables.has(name)) continue;
    try {
      launch.master_address = expand_node_list(variables.text(name)).front();
    } catch (const std::invalid_argument& error) {
      refuse(fmt::format("{}: {}", name, error.what()));
    }
    break;
  }
  return launch;
}

// One name of a list, whose first bracket is written out and the rest by the next call.
void expand_name(std::string_view name, const std::string& before, std::vector<std::string>& names) {
  const size_t open = name.find('[');
  if (open == std::string_view::npos) {
    if (name.find(']') != std::string_view::npos) refuse(fmt::format("'{}': a ']' without its '['", name));
    if (names.size() == kMostHosts) refuse(fmt::format("more than {} hosts", kMostHosts));
    names.push_back(before + std::string(name));
    return;
  }
  const size_t close = name.find(']', open);
  if (close == std::string_view::npos) refuse(fmt::format("'{}': a '[' without its ']'", name));
  const std::string head = before + std::string(name.substr(0, open));
  const std::string_view rest = name.substr(close + 1);
  std::string_view ranges = name.substr(open + 1, close - open - 1);
  while (true) {
    const std::string_view range = ranges.substr(0, ranges.find(','));
    const size_t dash = range.find('-');
    const std::string_view first = range.substr(0, dash),
                           last = dash == std::string_view::npos ? first : range.substr(dash + 1);
    const auto from = whole_number(first), to = whole_number(last);
    if (!from || !to || *from > *to || first.size() > 9)
      refuse(fmt::format("'{}': '{}' is not a number or a range of numbers", name, range));
    for (int i = *from; i <= *to; ++i) expand_name(rest, fmt::format("{}{:0{}}", head, i, first.size()), names);
    if (range.size() == ranges.size()) return;
    ranges.remove_prefix(range.size() + 1);
  }
}

}  // namespace

std::optional<std::string> environment_variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

namespace {

Launch find_ranks(const LaunchFlags& flags, const Variables& variables) {
  if (flags.rank >= 0 || flags.world_size >= 0) return from_flags(flags);
  if (flags.local_rank >= 0) refuse("--local-rank is given but --rank and --world-size are not");
  if (!flags.master.empty()) refuse("--master is given but --rank and --world-size are not");
  if (variables.has(kTorchrun.rank) || variables.has(kTorchrun.world_size)) {
    Launch launch = from_variables(variables, kTorchrun, "torchrun's environment");
    check_agrees(variables, kTorchrun, launch, kOpenMpi);
    launch.job = variables.text(variables.has("TORCHELASTIC_RUN_ID") ? "TORCHELASTIC_RUN_ID" : "SLURM_JOB_ID");
    if (launch.master_port > 0 && variables.text("TORCHELASTIC_USE_AGENT_STORE") == "True") ++launch.master_port;
    return launch;
  }
  if (variables.has(kOpenMpi.rank) || variables.has(kOpenMpi.world_size))
    return from_variables(variables, kOpenMpi, "Open MPI");
  if (variables.has("SLURM_PROCID")) {
    if (variables.has("SLURM_STEP_ID") || variables.has("SLURM_STEPID")) return from_slurm(variables);
    // A batch script, and what it starts without srun, has the first task's variables whatever it is.
    Launch alone;
    if (variables.number("SLURM_NTASKS").value_or(1) > 1)
      alone.note = fmt::format(
          "SLURM_NTASKS is {}, but srun did not start this process, so it is one of one; start it "
          "with srun or mpirun to use all tasks",
          variables.text("SLURM_NTASKS"));
    return alone;
  }
  return {};
}

// Whether an MPI has started just these ranks. Below one that has started something else, a launcher for each host say,
// its variables stand in every process, and say nothing of it.
bool started_by_mpi(const Variables& variables, const Launch& launch) {
  const auto agrees = [&](const char* rank, std::initializer_list<const char*> sizes) {
    if (variables.number(rank) != launch.rank) return false;
    for (const char* size : sizes)
      if (const auto found = variables.number(size)) return *found == launch.world_size;
    return true;
  };
  if (variables.has(kOpenMpi.rank)) return agrees(kOpenMpi.rank, {kOpenMpi.world_size});
  for (const char* rank : {"PMIX_RANK", "PMI_RANK"})
    if (variables.has(rank)) return agrees(rank, {"PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"});
  return false;
}

}  // namespace

Launch find_launch(const LaunchFlags& flags, const ReadVariable& variable) {
  const Variables variables(variable);
  Launch launch = find_ranks(flags, variables);
  launch.share_gpus = flags.share_gpus;
  launch.by_mpi = started_by_mpi(variables, launch);
  return launch;
}

std::vector<std::string> expand_node_list(std::string_view list) {
  std::vector<std::string> names;
  size_t begin = 0, depth = 0;
  for (size_t i = 0; i <= list.size(); ++i) {
    if (i < list.size() && list[i] == '[') ++depth;
    if (i < list.size() && list[i] == ']' && depth > 0) --depth;
    if (i < list.size() && (list[i] != ',' || depth > 0)) continue;
    if (i == begin) refuse(fmt::format("'{}': an empty name", list));
    expand_name(list.substr(begin, i - begin), "", names);
    begin = i + 1;
  }
  return names;
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "unknown host";
  return name.data();
}

}  // namespace gradlibra
