// SPDX-License-Identifier: MIT
// benchmark at sizes where it takes moments: every case runs, the numbers are there and plausible, mistakes are
// explained.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "benchmarks/cases.h"
#include "benchmarks/measure.h"
#include "benchmarks/step_table.h"
#include "benchmarks/training_step.h"
#include "tests/apps/run_programs.h"

namespace gradlibra {
namespace {

using Json = nlohmann::json;

// The last line of a program's output.
Json last_line(const std::string& out) {
  const size_t end = out.find_last_not_of('\n'), begin = out.rfind('\n', end);
  return Json::parse(out.substr(begin == std::string::npos ? 0 : begin + 1));
}

void expect_positive(const Json& object, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    ASSERT_TRUE(object.contains(name)) << name << " in " << object.dump();
    EXPECT_GT(object[name].get<double>(), 0) << name;
  }
}

TEST(Quantile, IsTheNearestRank) {
  const std::vector<double> values{4, 1, 3, 2};
  EXPECT_EQ(quantile(values, 0), 1);
  EXPECT_EQ(quantile(values, 0.5), 2);
  EXPECT_EQ(quantile(values, 0.9), 4);
  EXPECT_EQ(quantile(values, 1), 4);
  EXPECT_EQ(quantile(std::vector<double>{7}, 0.5), 7);
}

TEST(Measure, CountsWhatItCalls) {
  Context context(1);
  const std::unique_ptr<Timer> timer = make_timer(context);
  int calls = 0;
  const Timing timing = measure(
      context, *timer, [&] { ++calls; }, 1e-4);
  EXPECT_GE(timing.calls, 3);
  EXPECT_EQ(calls, timing.calls + 2);  // one to warm up, one to see how long it takes
  EXPECT_GE(timing.median_s, timing.min_s);
  EXPECT_GE(timing.min_s, 0);
}

TEST(Cases, EachRunsAndSaysWhatItMoves) {
  Context context(1);
  const std::vector<KernelCase> cases =
      kernel_cases({.N = 1, .size = 32, .channels = 32, .classes = 3, .max_boxes = 4, .parameters = 1000}, true);
  EXPECT_GT(cases.size(), 300u);
  for (const KernelCase& c : cases) {
    SCOPED_TRACE(c.kernel + " " + c.shape + " " + c.dtype);
    CaseMemory memory(context);
    const Work work = c.prepare(memory);
    EXPECT_GT(work.effort.bytes, 0);
    EXPECT_EQ(work.effort.is_matrix, c.kernel.find("conv") != std::string::npos);
    EXPECT_TRUE(!work.effort.is_matrix || work.effort.flops > 0);
    work.run();
  }
}

TEST(Cases, CellsAreThoseOfTheDetector) { EXPECT_EQ((CaseSizes{.N = 8, .size = 512}.cells()), 5456); }

TEST(SyntheticBatch, HasBoxesInsideTheImage) {
  const Batch batch = synthetic_batch(3, 64, 96, 16, 5);
  ASSERT_EQ(batch.images.size(), 3u * 64 * 96 * 3);
  for (size_t n = 0; n < 3; ++n) {
    ASSERT_GE(batch.gt_counts[n], 8);
    ASSERT_LE(batch.gt_counts[n], 16);
    for (size_t k = 0; k < 16; ++k) {
      const float* box = batch.gt_boxes.data() + (n * 16 + k) * 4;
      const int32_t label = batch.gt_labels[n * 16 + k];
      if (static_cast<int32_t>(k) >= batch.gt_counts[n]) {
        EXPECT_EQ(label, -1);
        continue;
      }
      EXPECT_TRUE(label >= 0 && label < 5);
      EXPECT_TRUE(0 <= box[0] && box[0] < box[2] && box[2] <= 96);
      EXPECT_TRUE(0 <= box[1] && box[1] < box[3] && box[3] <= 64);
    }
  }
}

TEST(TrainingFlops, FrozenPartsCountOnce) {
  Context context(1);
  ModelConfig config = tiny_config("unused").model;
  const auto flops = [&](int frozen_stages) {
    config.backbone.frozen_stages = frozen_stages;
    return training_flops(Detector(context, config, 3), 2, 64, 64);
  };
  config.backbone.frozen_stages = -1;
  std::map<std::string, double> multiply_adds;
  double all = 0;
  for (const auto& part : Detector(context, config, 3).costs(64, 64)) {
    if (part.sampling) continue;
    multiply_adds[part.part] = static_cast<double>(part.multiply_adds);
    all += multiply_adds[part.part];
  }
  const double stem = multiply_adds.at("backbone.stem"), first = multiply_adds.at("backbone.layer1");
  EXPECT_DOUBLE_EQ(flops(-1), 2 * 2 * (3 * all - stem));
  EXPECT_DOUBLE_EQ(flops(1), 2 * 2 * (3 * all - 2 * stem - 2 * first));
}

TEST(StepCombinations, AreAllOfThemInOrder) {
  const RuntimeConfig configured{.precision = "tf32", .parallel_levels = false};
  const auto texts = [&](const StepChoices& choices) {
    std::vector<std::string> result;
    for (const StepChoice& c : combinations(choices, configured))
      result.push_back(c.runtime.precision + " " + std::to_string(c.batch) + (c.runtime.cuda_graph ? " graph" : "") +
                       (c.runtime.parallel_levels ? " parallel" : ""));
    return result;
  };
  EXPECT_EQ(texts({}), std::vector<std::string>{"tf32 8 graph"});
  EXPECT_EQ(texts({.precision = {"bf16", "fp32"}, .batch = {8, 32}, .graph = {"on", "off"}, .parallel_levels = {"on"}}),
            (std::vector<std::string>{"bf16 8 graph parallel", "bf16 8 parallel", "bf16 32 graph parallel",
                                      "bf16 32 parallel", "fp32 8 graph parallel", "fp32 8 parallel",
                                      "fp32 32 graph parallel", "fp32 32 parallel"}));
}

TEST(StepCombinations, AFailureDoesNotStopTheOthers) {
  std::vector<std::string> lines;
  bool complete = true;
  const nlohmann::ordered_json result = benchmark_steps(
      combinations({.batch = {1, 2, 3}}, {}),
      [](const StepChoice& choice) -> nlohmann::ordered_json {
        if (choice.batch == 2) throw std::runtime_error("out of memory");
        nlohmann::ordered_json row{{"model", "m"},
                                   {"device", "d"},
                                   {"precision", "fp32"},
                                   {"graph", false},
                                   {"parallel_levels", false},
                                   {"batch", choice.batch}};
        for (const char* name : {"width", "height", "images_per_s", "ms_median", "ms_p90", "peak_memory_mb",
                                 "reserved_memory_mb", "tflops", "percent_of_matrix_rate"})
          row[name] = 1;
        row["unfused_convolutions"] = nlohmann::ordered_json::array();
        return row;
      },
      [&](const std::string& line) { lines.push_back(line); }, complete);
  EXPECT_FALSE(complete);
  EXPECT_EQ(result["rows"].size(), 2u);
  ASSERT_EQ(lines.size(), 5u);  // device, heading, three combinations
  EXPECT_HAS(lines[3], "failed: out of memory");
}

using BenchmarkProgram = ProgramTest;

TEST_F(BenchmarkProgram, Kernels) {
  const Ran ran = run({"benchmark", "kernels", "--device", "cpu", "--threads", "1", "--batch", "1,2", "--size", "32",
                       "--filter", "add_relu", "--seconds", "0.001", "--copies", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "add_relu");
  const Json json = last_line(ran.out);
  EXPECT_EQ(json["what"], "kernels");
  EXPECT_EQ(json["implementation"], "gradlibra");
  expect_positive(json, {"threads", "copy_gb_per_s", "matrix_tflops"});
  ASSERT_EQ(json["rows"].size(), 6u);  // three maps, two batches
  for (const Json& row : json["rows"]) {
    EXPECT_EQ(row["kernel"], "add_relu");
    EXPECT_EQ(row["percent_of"], "copy");
    expect_positive(row, {"batch", "ms_median", "ms_min", "calls", "bytes", "gb_per_s", "percent", "ms_copy"});
    EXPECT_LE(row["ms_min"].get<double>(), row["ms_median"].get<double>());
  }
}

TEST_F(BenchmarkProgram, KernelsExplainsMistakes) {
  Ran ran = run({"benchmark", "kernels", "--filter", "no_such_kernel"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "no_such_kernel");
  EXPECT_HAS(ran.err, "deform_im2col_backward");
  EXPECT_HAS(ran.err, "convolution.forward");
  ran = run({"benchmark", "kernels", "--size", "100"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "100");
  EXPECT_EQ(run({"benchmark"}).code, 2);
}

TEST_F(BenchmarkProgram, Step) {
  const std::string config = write_config(folder_ / "no_data_is_needed");
  std::vector<std::string> argv{
      "benchmark", "step", "--config", config, "--device", "cpu", "--threads", "1", "--batch", "2",
      "--height",  "64",   "--width",  "64",   "--steps",  "3",   "--warmup",  "1", "--json",  "model.loss.type=focal"};
  Ran ran = run(argv);
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "images/s");
  const Json json = last_line(ran.out);
  EXPECT_EQ(json["what"], "step");
  EXPECT_EQ(json["implementation"], "gradlibra");
  EXPECT_EQ(json["precision"], "fp32");
  EXPECT_EQ(json["graph"], false);
  EXPECT_EQ(json["compile"], false);
  EXPECT_EQ(json["steps"], 3);
  EXPECT_HAS(json["device"].get<std::string>(), "CPU");
  for (const char* text : {"version", "model"}) EXPECT_NE(json[text].get<std::string>(), "");
  expect_positive(json, {"threads", "batch", "height", "width", "ms_median", "ms_min", "ms_p90", "images_per_s",
                         "peak_memory_mb", "loss", "tflops", "percent_of_matrix_rate"});
  EXPECT_LE(json["ms_min"].get<double>(), json["ms_median"].get<double>());
  EXPECT_LE(json["ms_median"].get<double>(), json["ms_p90"].get<double>());

  argv.insert(argv.end() - 1, {"--precision", "fp8"});
  ran = run(argv);
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "fp8");
  ran = run({"benchmark", "step", "--config", config, "--height", "65"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "65");
}

TEST_F(BenchmarkProgram, SeveralSteps) {
  const std::string config = write_config(folder_ / "no_data_is_needed");
  const std::vector<std::string> argv{"benchmark", "step", "--config", config, "--device",    "cpu",
                                      "--threads", "1",    "--batch",  "1,2",  "--precision", "fp32,bf16",
                                      "--height",  "64",   "--width",  "64",   "--steps",     "1",
                                      "--warmup",  "0",    "--json"};
  const Ran ran = run(argv);
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json json = last_line(ran.out);
  EXPECT_EQ(json["what"], "steps");
  ASSERT_EQ(json["rows"].size(), 4u);
  const char* precisions[] = {"fp32", "fp32", "bf16", "bf16"};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(json["rows"][i]["precision"], precisions[i]);
    EXPECT_EQ(json["rows"][i]["batch"], 1 + i % 2);
    expect_positive(json["rows"][i], {"ms_median", "images_per_s", "peak_memory_mb", "reserved_memory_mb"});
  }
  EXPECT_EQ(run({"benchmark", "step", "--config", config, "--graph", "maybe"}).code, 2);
}

TEST_F(BenchmarkProgram, StepOnRealData) {
  put_tiny_set(folder_ / "data", 6);
  const std::string config = write_config(folder_ / "data");
  const Ran ran =
      run({"benchmark", "step", "--config", config, "--device", "cpu", "--threads", "1", "--batch",     "2",
           "--height",  "64",   "--width",  "64",   "--steps",  "3",   "--warmup",  "1", "--real-data", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "waited for data");
  const Json json = last_line(ran.out);
  EXPECT_EQ(json["data"], "real");
  EXPECT_GE(json["data_wait_percent"].get<double>(), 0);
  EXPECT_LE(json["data_wait_percent"].get<double>(), 100);
  EXPECT_EQ(run({"benchmark", "step", "--config", write_config(folder_ / "nothing"), "--real-data"}).code, 1);
}

TEST_F(BenchmarkProgram, Data) {
  put_tiny_set(folder_ / "data", 6);
  const std::string config = write_config(folder_ / "data");
  Ran ran = run({"benchmark", "data", "--config", config, "--batches", "2", "--workers", "1,2", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json json = last_line(ran.out);
  EXPECT_EQ(json["what"], "data");
  ASSERT_EQ(json["rows"].size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    const Json& row = json["rows"][i];
    EXPECT_EQ(row["cache"], i % 2 == 0 ? "cold" : "warm");
    EXPECT_EQ(row["workers"], i / 2 + 1);
    EXPECT_EQ(row["images"], i % 2 == 0 ? 4 : 2 * 8 * (row["workers"].get<int>() + 1));
    EXPECT_GE(row["wait_share"].get<double>(), 0);
    EXPECT_LE(row["wait_share"].get<double>(), 1);
    expect_positive(row, {"batches", "seconds", "images_per_s"});
  }
  ran = run({"benchmark", "data", "--config", config, "--batches", "0"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_EQ(run({"benchmark", "data", "--config", write_config(folder_ / "none", "none.yaml")}).code, 1);
}

}  // namespace
}  // namespace gradlibra
