// SPDX-License-Identifier: MIT
// What --help promises: every default, examples that work as they stand; completion for bash; what programs do before
// main has its turn.
#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <sstream>

#include "tests/apps/run_programs.h"

namespace gradlibra {
namespace {

using Words = std::vector<std::string>;

const std::vector<Words> kCommands{{"synthesize"},
                                   {"make-patches"},
                                   {"train"},
                                   {"evaluate"},
                                   {"detect"},
                                   {"scan"},
                                   {"inspect", "config"},
                                   {"inspect", "data"},
                                   {"inspect", "split"},
                                   {"inspect", "model"},
                                   {"inspect", "step"},
                                   {"inspect", "training"},
                                   {"inspect", "scaling"},
                                   {"inspect", "device"},
                                   {"benchmark", "kernels"},
                                   {"benchmark", "step"},
                                   {"benchmark", "data"},
                                   {"report"}};

using HelpTest = ProgramTest;

// An option with a value says what it is if it is not given.
TEST_F(HelpTest, ShowsEveryDefault) {
  for (Words command : kCommands) {
    command.push_back("--help");
    std::istringstream lines(run(command).out);
    std::string entry;
    const auto check = [&] {
      const std::regex option("^  (-[a-z],)?--[a-z-]+ [A-Z{\\[a-z|]");
      if (std::regex_search(entry, option) && entry.find("--version") == std::string::npos) {
        const bool told = entry.find("REQUIRED") != std::string::npos || entry.find("=") != std::string::npos ||
                          entry.find("not given") != std::string::npos || entry.find("instead of") != std::string::npos;
        EXPECT_TRUE(told) << command[0] << " " << command[1] << ": " << entry;
      }
    };
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("  -") || line.empty()) {
        check();
        entry = line;
      } else {
        entry += " " + line;
      }
    }
    check();
  }
}

std::vector<std::string> examples_of(const std::string& help, const std::string& program) {
  std::vector<std::string> examples;
  const size_t begin = help.find("Example");
  std::istringstream lines(begin == std::string::npos ? "" : help.substr(begin));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("  " + program + " ")) examples.push_back(line.substr(2));
  return examples;
}

// In the order in which they build on each other, in one folder that holds the project's configurations.
TEST_F(HelpTest, ExamplesWorkAsTheyStand) {
  std::filesystem::create_directory_symlink(GRADLIBRA_CONFIGS, folder_ / "configs");
  std::set<std::string> done;
  for (Words command : kCommands) {
    const std::string program = command[0];
    command.push_back("--help");
    const auto examples = examples_of(run(command).out, program);
    EXPECT_FALSE(examples.empty()) << program;
    for (const std::string& example : examples) {
      if (!done.insert(example).second) continue;
      const std::string line = "cd '" + folder_.path().string() + "' && PATH='" GRADLIBRA_PROGRAMS "':$PATH " +
                               example + " > example.out 2>&1";
      EXPECT_EQ(std::system(line.c_str()), 0) << example << "\n" << get(folder_ / "example.out");
    }
  }
  // What a program's own help lists is what its commands list.
  for (const char* program : {"inspect", "benchmark"}) {
    const auto examples = examples_of(run({program, "--help"}).out, program);
    EXPECT_GE(examples.size(), 3u) << program;
    for (const std::string& example : examples) EXPECT_TRUE(done.contains(example)) << example;
  }
  EXPECT_TRUE(std::filesystem::exists(folder_ / "out/mine/figures/gradient_ratio.svg"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "out/found/detections.json"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "out/mine/report.html"));
}

// What bash would offer for these words, the last being typed.
std::string offered(const TemporaryFolder& folder, const std::string& program, const Words& words) {
  std::string line = "source '" GRADLIBRA_PROGRAMS "/../completions/" + program + "'; COMP_WORDS=(" + program;
  for (const std::string& word : words) line += " '" + word + "'";
  line += "); COMP_CWORD=" + std::to_string(words.size()) + "; _gradlibra_" + program + "; echo \" ${COMPREPLY[@]} \"";
  put(folder / "complete.sh", line);
  EXPECT_EQ(std::system(
                ("bash '" + (folder / "complete.sh").string() + "' > '" + (folder / "offered").string() + "'").c_str()),
            0);
  return get(folder / "offered");
}

TEST_F(HelpTest, CompletionOffersWhatFits) {
  EXPECT_EQ(offered(folder_, "train", {"--work"}), " --work-dir \n");
  EXPECT_EQ(offered(folder_, "train", {"--device", ""}), " auto cpu cuda \n");
  EXPECT_HAS(offered(folder_, "train", {"schedule."}), " schedule.lr= ");
  EXPECT_HAS(offered(folder_, "train", {"model.loss.ty"}), " model.loss.type= ");
  EXPECT_HAS(offered(folder_, "inspect", {""}), " training ");
  EXPECT_EQ(offered(folder_, "inspect", {"step", "--wei"}), " --weights \n");
  EXPECT_HAS(offered(folder_, "benchmark", {"step", "--precision", ""}), " bf16 ");
  EXPECT_EQ(offered(folder_, "evaluate", {"--split", "t"}), " train test \n");
}

// Threads of OpenMP spin shortly, unless the user has said how they wait.
TEST_F(HelpTest, ProgramsAreGoodNeighbours) {
  const auto spins = [&](const std::string& environment) {
    const std::string line = environment +
                             " OMP_DISPLAY_ENV=verbose '" GRADLIBRA_PROGRAMS "/inspect' device > /dev/null 2> '" +
                             (folder_ / "env").string() + "'";
    EXPECT_EQ(std::system(line.c_str()), 0);
    const std::string text = get(folder_ / "env");
    const size_t at = text.rfind("GOMP_SPINCOUNT = '");  // the last of two starts
    return at == std::string::npos ? "none" : text.substr(at + 18, text.find('\'', at + 18) - at - 18);
  };
  const std::string usual = spins("env -u GOMP_SPINCOUNT -u OMP_WAIT_POLICY");
  if (usual == "none") GTEST_SKIP() << "not GCC's OpenMP";
  EXPECT_LE(std::stoll(usual), 10000);
  EXPECT_EQ(spins("env GOMP_SPINCOUNT=77"), "77");
  EXPECT_EQ(spins("env -u GOMP_SPINCOUNT OMP_WAIT_POLICY=passive"), "0");
}

}  // namespace
}  // namespace gradlibra
