// SPDX-License-Identifier: MIT
// What ranks decide together: to stop, to fail, to refuse each other; and a validation that they share.
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>

#include "engine/detect_on_ranks.h"
#include "engine/evaluation.h"
#include "engine/gather_results.h"
#include "engine/rank_check.h"
#include "engine/read_split.h"
#include "engine/trainer.h"
#include "runtime/training/schedule.h"
#include "tests/engine/thread_ranks.h"
#include "tests/engine/tiny_experiment.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using testing::ThreadRanks;

// Calls `before` with the number of each gather, from 1 on.
class Counting final : public Communicator {
 public:
  Counting(Communicator& inner, std::function<void(int)> before) : inner_(inner), before_(std::move(before)) {}
  [[nodiscard]] int rank() const override { return inner_.rank(); }
  [[nodiscard]] int world_size() const override { return inner_.world_size(); }
  void sum(View<float> values) override { inner_.sum(values); }
  void sum(View<double> values) override { inner_.sum(values); }
  void broadcast(View<float> values, int root) override { inner_.broadcast(values, root); }
  void barrier() override { inner_.barrier(); }
  std::vector<std::string> gather(const std::string& own) override {
    before_(++gathers_);
    return inner_.gather(own);
  }

 private:
  Communicator& inner_;
  std::function<void(int)> before_;
  int gathers_ = 0;
};

TEST(GatherResults, OnesErrorIsAnErrorOfAll) {
  std::string messages[3];
  ThreadRanks(3).run([&](Communicator& ranks) {
    const auto r = static_cast<size_t>(ranks.rank());
    EXPECT_EQ(gather_results(ranks, [&] { return std::string(r, 'x'); }), (std::vector<std::string>{"", "x", "xx"}));
    messages[r] = message_of<AgreedError>([&] {
      (void)gather_results(ranks, [&]() -> std::string {
        if (r >= 1) throw std::runtime_error("disk of " + std::to_string(r));
        return "fine";
      });
    });
  });
  EXPECT_EQ(messages[0], "rank 1 on " + host_name() + ": disk of 1");
  EXPECT_EQ(messages[1], "disk of 1");
  EXPECT_EQ(messages[2], "rank 1 on " + host_name() + ": disk of 1");
  SingleProcess alone;
  EXPECT_THROW((void)gather_results(alone, []() -> std::string { throw std::bad_alloc(); }), std::bad_alloc);
}

TEST(RankCheck, NamesBothRanksAndWhatDiffers) {
  std::string messages[3];
  ThreadRanks(3).run([&](Communicator& ranks) {
    const int r = ranks.rank();
    require_same_marks(ranks, {{"data", "1"}}, "now");
    messages[r] = message_of<RanksDiffer>([&] {
      require_same_marks(ranks,
                         {{"data", "abc"},
                          {"configuration", r == 2 ? "lr: 1\nepochs: 2\nseed: 3\n" : "lr: 1\nepochs: 4\nseed: 3\n"},
                          {"weights", r == 0 ? "11" : "22"}},
                         "at the start");
    });
  });
  for (const std::string& message : messages) {
    EXPECT_EQ(message, messages[0]);
    EXPECT_EQ(message, "rank 0 on " + host_name() + " and rank 1 on " + host_name() +
                           " differ at the start in the weights: 11 and 22");
  }
  ThreadRanks(2).run([&](Communicator& ranks) {
    const std::string config = ranks.rank() == 1 ? "lr: 1\nepochs: 2\n" : "lr: 1\nepochs: 4\n";
    const auto check = [&] { require_same_marks(ranks, {{"configuration", config}}, "at the start"); };
    EXPECT_HAS(message_of<RanksDiffer>(check), "in the configuration: 'epochs: 4', 'epochs: 2'");
  });
}

TEST(LearningRate, BelongsToTheBatchOfAllRanks) {
  ExperimentConfig paper;
  ConfigSource(std::string(GRADLIBRA_CONFIGS) + "/paper/grad_libra.yaml", {}).read_into(paper);
  EXPECT_EQ(scaled_lr(paper.schedule, 4 * 8), 0.002);
  EXPECT_EQ(scaled_lr(paper.schedule, 2 * 8), 0.001);
  EXPECT_EQ(scaled_lr(paper.schedule, 8 * 8), 0.004);
}

class RankAgreement : public ::testing::Test {
 protected:
  RankAgreement() {
    put_tiny_set(folder_ / "data", 8);
    config_ = tiny_config(folder_ / "data");
    config_.loader.batch_size = 1;
    config_.loader.retry_seconds = 0;
    config_.schedule.epochs = 2;
    config_.schedule.steps = {};
  }
  Trainer::Options options() const {
    Trainer::Options options;
    options.work_dir = folder_ / "work";
    options.quiet = true;
    return options;
  }
  // Of the newest checkpoint.
  [[nodiscard]] int64_t saved_step() const {
    int64_t step = -1;
    if (!fs::exists(folder_ / "work/checkpoints")) return step;
    for (const auto& entry : fs::directory_iterator(folder_ / "work/checkpoints")) {
      const std::string name = entry.path().stem().string();
      if (name.starts_with("checkpoint_")) step = std::max(step, int64_t{std::stoi(name.substr(11))});
    }
    return step;
  }
  TemporaryFolder folder_;
  ExperimentConfig config_;
};

// The first gather compares the ranks, then there is one in front of each step.
TEST_F(RankAgreement, ASignalToOneStopsAllAtTheSameStep) {
  Trainer::Outcome outcomes[2];
  int64_t steps[2];
  int signals[2];
  ThreadRanks(2).run([&](Communicator& ranks) {
    const int r = ranks.rank();
    std::atomic<int> signal{0};
    Counting counting(ranks, [&](int gather) {
      if (r == 1 && gather == 4) signal = SIGUSR1;  // too late for this one: it is in the next
    });
    Context context(1);
    Trainer::Options own = options();
    own.signal = &signal;
    Trainer trainer(context, counting, config_, own);
    outcomes[r] = trainer.run();
    steps[r] = trainer.step();
    signals[r] = trainer.stop_signal();
  });
  for (const int r : {0, 1}) {
    EXPECT_EQ(outcomes[r], Trainer::Outcome::stopped);
    EXPECT_EQ(steps[r], 3);
    EXPECT_EQ(signals[r], SIGUSR1);
  }
  EXPECT_EQ(saved_step(), 3);
}

TEST_F(RankAgreement, AnImageThatOneCannotReadEndsAllWithACheckpoint) {
  config_.train.checkpoint_every = 1000;
  std::string messages[2];
  ThreadRanks(2).run([&](Communicator& ranks) {
    Context context(1);
    Trainer trainer(context, ranks, config_, options());
    ranks.barrier();
    if (ranks.rank() == 0) fs::resize_file(folder_ / "data/JPEGImages/tiny_005.png", 100);
    ranks.barrier();
    messages[ranks.rank()] = message_of<AgreedError>([&] { (void)trainer.run(); });
  });
  // Whichever of them it was, it names the file, and the other one names it.
  for (const std::string& message : messages) EXPECT_HAS(message, "tiny_005.png");
  const bool first = !messages[0].starts_with("rank 1 on ");
  EXPECT_TRUE(messages[first ? 1 : 0].starts_with("rank " + std::string(first ? "0" : "1") + " on ")) << messages[0];
  EXPECT_FALSE(messages[first ? 0 : 1].starts_with("rank ")) << messages[1];
  EXPECT_GE(saved_step(), 0);
  EXPECT_HAS(messages[0], "The checkpoint of step " + std::to_string(saved_step()) + " is kept");
}

// Sums that were cut off may have gone into the weights: they are not kept, and the loss is not retyped.
TEST_F(RankAgreement, ALostPeerLeavesNoCheckpoint) {
  config_.train.checkpoint_every = 1000;
  ThreadRanks(2).run([&](Communicator& ranks) {
    Counting counting(ranks, [](int gather) {
      if (gather == 6) throw PeerLost("rank 1 is gone");
    });
    Context context(1);
    Trainer trainer(context, counting, config_, options());
    EXPECT_EQ(message_of<PeerLost>([&] { (void)trainer.run(); }), "rank 1 is gone");
    EXPECT_GT(trainer.step(), 0);
  });
  EXPECT_FALSE(fs::exists(folder_ / "work/checkpoints/latest"));
}

// The first rank tells of it, whichever rank leaves it out.
TEST_F(RankAgreement, ImagesThatAnyRankLeavesOutAreTold) {
  config_.data.bad_image = "drop";
  config_.loader.cache_mb = 0;
  std::string said;
  ::testing::internal::CaptureStdout();
  ThreadRanks(2).run([&](Communicator& ranks) {
    Context context(1);
    Trainer::Options own = options();
    own.quiet = false;
    Trainer trainer(context, ranks, config_, own);
    ranks.barrier();
    if (ranks.rank() == 0)
      for (const char* name : {"tiny_002", "tiny_005", "tiny_006"})
        fs::resize_file(folder_ / "data/JPEGImages" / (std::string(name) + ".png"), 100);
    ranks.barrier();
    EXPECT_EQ(trainer.run(), Trainer::Outcome::finished);
  });
  said = ::testing::internal::GetCapturedStdout();
  for (const char* name : {"tiny_002", "tiny_005", "tiny_006"}) {
    const size_t at = said.find(std::string("left out from now on"));
    ASSERT_NE(at, std::string::npos) << said;
    EXPECT_NE(said.find(name, at), std::string::npos) << name << " in " << said;
  }
}

TEST_F(RankAgreement, OtherConfigurationsDataAndWeightsAreRefused) {
  put_tiny_set(folder_ / "other", 8);
  std::ofstream(folder_ / "other/ImageSets/Main/train.txt") << "tiny_000\ntiny_001\n";
  const auto refusal = [&](const std::function<void(ExperimentConfig&)>& change) {
    std::string messages[2];
    ThreadRanks(2).run([&](Communicator& ranks) {
      ExperimentConfig config = config_;
      if (ranks.rank() == 1) change(config);
      Context context(1);
      Trainer::Options own = options();
      own.work_dir = folder_ / "refused";
      messages[ranks.rank()] = message_of<RanksDiffer>([&] { const Trainer trainer(context, ranks, config, own); });
    });
    EXPECT_EQ(messages[0], messages[1]);
    EXPECT_HAS(messages[0], "rank 0 on " + host_name() + " and rank 1 on " + host_name() + " differ at the start");
    return messages[0];
  };
  EXPECT_HAS(refusal([](auto& c) { c.schedule.lr = 0.5; }), "configuration: '  lr: 0.01', '  lr: 0.5'");
  EXPECT_HAS(refusal([&](auto& c) { c.data.root = (folder_ / "other").string(); }), "training data");
  // The same annotations, other pixels.
  std::filesystem::copy(folder_ / "data", folder_ / "pixels", std::filesystem::copy_options::recursive);
  std::ofstream(folder_ / "pixels/JPEGImages/tiny_000.png", std::ios::app) << "behind the picture's end";
  EXPECT_HAS(refusal([&](auto& c) { c.data.root = (folder_ / "pixels").string(); }), "files of training images");

  // Checkpoints of one step in two folders, each of a host of its own.
  for (const int host : {1, 2}) {
    ExperimentConfig config = config_;
    config.loader.batch_size = 2;  // as two ranks have together
    config.schedule.lr = 0.01 * host;
    Trainer::Options own = options();
    own.work_dir = folder_ / ("host" + std::to_string(host));
    own.stop_after_step = 2;
    Context context(1);
    SingleProcess alone;
    (void)Trainer(context, alone, config, own).run();
  }
  std::string messages[2];
  ThreadRanks(2).run([&](Communicator& ranks) {
    Context context(1);
    Trainer::Options own = options();
    own.resume = true;
    own.work_dir = folder_ / ("host" + std::to_string(ranks.rank() + 1));
    messages[ranks.rank()] = message_of<std::exception>([&] { const Trainer trainer(context, ranks, config_, own); });
  });
  for (const std::string& message : messages) EXPECT_HAS(message, "differ at the start in the weights");
}

// Where the configuration names no classes, each host takes those of its own files.
TEST_F(RankAgreement, OtherClassesAreRefused) {
  const auto put_coco = [&](const std::string& name, const std::string& third) {
    fs::create_directories(folder_ / name);
    std::ofstream(folder_ / name / "train.json")
        << R"({"images": [{"id": 1, "file_name": "tiny_000.png", "width": 64, "height": 64}],)"
        << R"( "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 6, 16, 18], "area": 288}],)"
        << R"( "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}, {"id": 3, "name": ")" << third
        << "\"}]}";
    fs::copy_file(folder_ / "data/JPEGImages/tiny_000.png", folder_ / name / "tiny_000.png");
  };
  put_coco("first", "bar");
  put_coco("second", "rod");
  config_.data.format = "coco";
  config_.data.classes = {};
  config_.data.groups = {};
  config_.data.image_dir = ".";
  config_.data.train = "train.json";
  std::string messages[2];
  ThreadRanks(2).run([&](Communicator& ranks) {
    ExperimentConfig config = config_;
    config.data.root = (folder_ / (ranks.rank() == 0 ? "first" : "second")).string();
    Context context(1);
    messages[ranks.rank()] = message_of<RanksDiffer>([&] { const Trainer trainer(context, ranks, config, options()); });
  });
  for (const std::string& message : messages) EXPECT_HAS(message, "differ at the start in the classes: ");
}

TEST_F(RankAgreement, WeightsThatDriftApartAreFound) {
  config_.distributed.check_every = 2;
  std::string messages[2];
  ThreadRanks(2).run([&](Communicator& ranks) {
    Trainer* self = nullptr;
    Counting counting(ranks, [&](int gather) {
      if (ranks.rank() != 1 || gather != 6) return;  // start; steps 0, 1; check; step 2; step 3
      Parameter& any = self->detector().parameters().all().front();
      std::vector<float> values = self->detector().context().download<float>(any.node.value);
      values[3] += 1e-6f;
      self->detector().context().upload<float>(values, any.node.value);
    });
    Context context(1);
    Trainer trainer(context, counting, config_, options());
    self = &trainer;
    messages[ranks.rank()] = message_of<RanksDiffer>([&] { (void)trainer.run(); });
  });
  for (const std::string& message : messages) EXPECT_HAS(message, "differ after step 4 in the weights");
}

// Batch norms count what their own rank has seen; a validation is of one detector.
TEST_F(RankAgreement, RunningStatisticsAreThoseOfTheFirst) {
  std::vector<float> before[2], after[2];
  ThreadRanks(2).run([&](Communicator& ranks) {
    Context context(1);
    ExperimentConfig config = config_;
    config.loader.batch_size = 2;
    config.schedule.epochs = 1;
    config.distributed.sync_norm = false;
    Trainer::Options own = options();
    own.stop_after_step = 1;
    Trainer trainer(context, ranks, config, own);
    EXPECT_EQ(trainer.run(), Trainer::Outcome::stopped);
    const Tensor& mean = trainer.detector().parameters().find("backbone.bn1.running_mean")->node.value;
    const auto r = static_cast<size_t>(ranks.rank());
    before[r] = context.download<float>(mean);
    const std::string hash = hash_of_weights(trainer.detector());
    share_running_statistics(trainer.detector(), ranks);
    after[r] = context.download<float>(mean);
    EXPECT_EQ(hash_of_weights(trainer.detector()), hash);
  });
  EXPECT_NE(before[0], before[1]);
  EXPECT_EQ(after[0], before[0]);
  EXPECT_EQ(after[1], before[0]);
}

// Batches are the same ones for any number of ranks, and so are the detections to the last bit.
TEST_F(RankAgreement, DetectionsDoNotDependOnTheNumberOfRanks) {
  put_tiny_set(folder_ / "data", 7, "val", 8);
  config_.data.val = "val";
  config_.loader.batch_size = 2;
  config_.model.test.score_threshold = 0;
  const Dataset val = read_evaluation_split(config_, Split::val, [](const std::string&) {});
  const auto detect = [&](Communicator& ranks) {
    Context context(1);
    Detector detector(context, config_.model, ClassInfo{kTinyClasses, {3, 3, 2}});
    detector.parameters().initialize(5);
    return coco_results_json(val, detect_on_ranks(detector, val, config_, ranks));
  };
  SingleProcess alone;
  const std::string want = detect(alone);
  EXPECT_GT(want.size(), 10000u);
  for (const int count : {2, 3, 4, 5}) {
    std::vector<std::string> got(static_cast<size_t>(count));
    ThreadRanks(count).run([&](Communicator& ranks) { got[static_cast<size_t>(ranks.rank())] = detect(ranks); });
    for (const std::string& json : got) EXPECT_TRUE(json == want) << count;
  }
}

TEST_F(RankAgreement, AValidationIsBrokenOffByAll) {
  put_tiny_set(folder_ / "data", 6, "val", 8);
  config_.data.val = "val";
  int64_t steps[2];
  ThreadRanks(2).run([&](Communicator& ranks) {
    const int r = ranks.rank();
    std::atomic<int> signal{0};
    // Start, four steps of the epoch; the next one gathers the detections.
    Counting counting(ranks, [&](int gather) {
      if (r == 1 && gather == 5) signal = SIGTERM;
    });
    Context context(1);
    Trainer::Options own = options();
    own.signal = &signal;
    Trainer trainer(context, counting, config_, own);
    EXPECT_EQ(trainer.run(), Trainer::Outcome::stopped);
    EXPECT_EQ(trainer.stop_signal(), SIGTERM);
    steps[r] = trainer.step();
  });
  EXPECT_EQ(steps[0], 4);
  EXPECT_EQ(steps[1], 4);
  EXPECT_EQ(saved_step(), 4);
  // It is made up for when the training goes on.
  ThreadRanks(2).run([&](Communicator& ranks) {
    Context context(1);
    Trainer::Options own = options();
    own.resume = true;
    Trainer trainer(context, ranks, config_, own);
    EXPECT_EQ(trainer.run(), Trainer::Outcome::finished);
  });
  std::ifstream log(folder_ / "work/log.jsonl");
  int validations = 0;
  for (std::string line; std::getline(log, line);) validations += line.find("val_map50") != std::string::npos;
  EXPECT_EQ(validations, 2);
}

}  // namespace
}  // namespace gradlibra
