// SPDX-License-Identifier: MIT
#include "engine/program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "engine/completion.h"
#include "engine/option_checks.h"
#include "engine/trainer.h"
#include "engine/version.h"
#include "runtime/base/processors.h"
#include "runtime/base/utf8.h"

namespace gradlibra {

namespace {

// A file opened while stdout or stderr is closed would get its number, and with it what is printed.
void open_standard_streams() {
  for (int stream = 0; stream <= 2; ++stream)
    if (::fcntl(stream, F_GETFD) < 0 && ::open("/dev/null", stream == 0 ? O_RDONLY : O_WRONLY) != stream) return;
}

// A pipe or terminal that nobody reads any more: signals tell of that, and a program may well go on without (`| head`).
bool reader_has_gone() {
  struct stat info {};
  if (::fstat(STDOUT_FILENO, &info) != 0) return false;
  if (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode)) return true;
  return S_ISCHR(info.st_mode) &&
         (::isatty(STDOUT_FILENO) != 0 || (::write(STDOUT_FILENO, "", 0) < 0 && errno == EIO));  // hung up
}

// Empty, or why some of what was printed is nowhere. Printing itself is not asked each time: stdout keeps in mind what
// failed.
std::string lost_output() {
  errno = 0;
  const bool flushed = std::fflush(stdout) == 0;
  const int error = errno;
  if ((flushed && std::ferror(stdout) == 0) || reader_has_gone()) return "";
  return std::string("what was printed could not be written in full") +
         (flushed ? "" : std::string(": ") + std::strerror(error));
}

int run(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  if (argc == 2 && std::strcmp(argv[1], "--bash-completion") == 0) {  // for the build, not for people
    fmt::print("{}", bash_completion(app));
    return kSuccess;
  }
  app.get_formatter()->column_width(34);
  refuse_empty_paths(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? kSuccess : kUsage;
  }
  try {
    return body();
  } catch (const std::exception& error) {
    const bool memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
    const std::string what = memory ? "out of memory; use a smaller loader.batch_size or image size" : error.what();
    std::fputs((app.get_name() + ": " + printable(what) + "\n").c_str(), stderr);  // no exception where stderr is full
    return exit_code_of(error);
  }
}

}  // namespace

ExitCode exit_code_of(const std::exception& error) {
  const auto is = [&](auto* type) { return dynamic_cast<decltype(type)>(&error) != nullptr; };
  if (is(static_cast<const ConfigError*>(nullptr)) || is(static_cast<const std::invalid_argument*>(nullptr)))
    return kUsage;
  return is(static_cast<const NonFiniteError*>(nullptr)) ? kNonFinite : kFailure;
}

int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  open_standard_streams();
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on files is an error of the write that meets it, which names the file
  restart_with_short_spins(argv);
  app.set_version_flag("--version", "gradlibra " + version_text());
  const int code = run(app, argc, argv, body);
  const std::string lost = lost_output();
  if (lost.empty()) return code;
  std::fputs((app.get_name() + ": " + lost + "\n").c_str(), stderr);
  return code == kSuccess ? static_cast<int>(kFailure) : code;
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
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
}

std::unique_ptr<Context> open_device(const CommonOptions& options, bool quiet, int place) {
  std::unique_ptr<Context> context = Context::for_device(options.device, options.threads, place);
  if (quiet) return context;
  const std::string why = context->why_no_gpu().empty() ? "" : " (" + context->why_no_gpu() + ")";
  const std::string versions = context->library_versions().empty() ? "" : ", " + context->library_versions();
  fmt::print(stderr, "device: {}{}{}\n", context->device_name(), versions, why);
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

LoadedDetector open_detector(Context& context, const CLI::App& app, OpenedCheckpoint checkpoint,
                             const CommonOptions& options) {
  for (const std::string& problem : checkpoint.problems)
    fmt::print(stderr, "{}: checkpoint: {}\n", app.get_name(), problem);
  if (!checkpoint.problems.empty()) fmt::print(stderr, "{}: taking the older {}\n", app.get_name(), checkpoint.name);
  return load_detector(context, std::move(checkpoint), options.config, options.overrides);
}

std::string describe(const LoadedDetector& loaded) {
  if (loaded.step == 0) return loaded.name + " (weights)";
  return fmt::format("{} (step {}{})", loaded.name, loaded.step, loaded.averaged ? ", averaged weights" : "");
}

}  // namespace gradlibra
