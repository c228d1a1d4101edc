// SPDX-License-Identifier: MIT
#include "engine/program.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "engine/completion.h"
#include "engine/trainer.h"
#include "runtime/base/processors.h"

namespace gradlibra {

int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  restart_with_short_spins(argv);
  app.set_version_flag("--version", std::string("gradlibra ") + GRADLIBRA_VERSION);
  if (argc == 2 && std::strcmp(argv[1], "--bash-completion") == 0) {  // for the build, not for people
    fmt::print("{}", bash_completion(app));
    return kSuccess;
  }
  app.get_formatter()->column_width(34);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? kSuccess : kUsage;
  }
  const auto fail = [&](const std::exception& e, ExitCode code) {
    fmt::print(stderr, "{}: {}\n", app.get_name(), e.what());
    return static_cast<int>(code);
  };
  try {
    return body();
  } catch (const ConfigError& e) {
    return fail(e, kUsage);
  } catch (const std::invalid_argument& e) {
    return fail(e, kUsage);
  } catch (const NonFiniteError& e) {
    return fail(e, kNonFinite);
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "{}: out of memory; use a smaller loader.batch_size or image size\n", app.get_name());
    return kFailure;
  } catch (const std::exception& e) {
    return fail(e, kFailure);
  }
}

void add_config_options(CLI::App& app, CommonOptions& options, bool config_required) {
  auto* config = app.add_option("--config", options.config,
                                config_required ? "experiment file (YAML); configs/ has some"
                                                : "experiment file (YAML); configs/ has some; not given: the defaults")
                     ->type_name("FILE");
  if (config_required) config->required();
  app.add_option("overrides", options.overrides,
                 "values of the configuration to change, such as schedule.lr=0.01; `inspect config` lists the keys")
      ->type_name("key.path=value");
}

void add_device_options(CLI::App& app, CommonOptions& options) {
  app.add_option("--device", options.device, "auto takes a GPU if one can be used")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "CPU threads; 0: OMP_NUM_THREADS, or one per processor within the quota")
      ->capture_default_str();
}

std::unique_ptr<Context> open_device(const CommonOptions& options) {
  std::unique_ptr<Context> context = Context::for_device(options.device, options.threads);
  const std::string why = context->why_no_gpu().empty() ? "" : " (" + context->why_no_gpu() + ")";
  fmt::print(stderr, "device: {}{}\n", context->device_name(), why);
  return context;
}

void try_output_folder(const std::filesystem::path& folder) {
  if (folder.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (!std::filesystem::is_directory(folder))
    throw std::runtime_error(
        folder.string() + ": cannot be made a folder: " + (error ? error.message() : "there is a file of that name"));
  const std::filesystem::path probe = folder / fmt::format(".write_test.{}", ::getpid());
  std::FILE* file = std::fopen(probe.c_str(), "wb");
  if (file == nullptr) throw std::runtime_error(folder.string() + ": cannot be written to: " + std::strerror(errno));
  std::fclose(file);
  std::filesystem::remove(probe, error);
}

ExperimentConfig read_experiment(const CommonOptions& options) {
  ExperimentConfig config;
  ConfigSource(options.config, options.overrides).read_into(config);
  return config;
}

namespace {
std::atomic<int> caught_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "written by a signal handler");

void on_signal(int number) {
  if (caught_signal.exchange(number) != 0) std::_Exit(128 + number);
}
}  // namespace

const std::atomic<int>& catch_signals() {
  for (const int number : {SIGINT, SIGTERM, SIGUSR1}) std::signal(number, on_signal);
  return caught_signal;
}

}  // namespace gradlibra
