// SPDX-License-Identifier: MIT
// The copies of the log for other tools: event files byte by byte, tables, what a resumed training leaves of them.
#include "engine/scalar_log.h"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "engine/progress.h"
#include "engine/training_figures.h"
#include "engine/training_log.h"
#include "tests/data/data_files.h"

namespace gradlibra {
namespace {

using Line = nlohmann::ordered_json;

TEST(EventFiles, ChecksumsAreCastagnolis) {
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);            // the check value of the catalogue
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(masked_crc32c("123456789"), ((0xe3069283u >> 15) | (0xe3069283u << 17)) + 0xa282ead8u);
}

// Reads what TensorBoard would, by the formats' rules and not by the writer's code.
struct Event {
  double wall_time = 0;
  int64_t step = 0;
  std::string version;
  std::optional<int> session;
  std::vector<std::pair<std::string, float>> values;
};
class Reader {
 public:
  explicit Reader(std::string bytes) : bytes_(std::move(bytes)) {}
  [[nodiscard]] bool at_end() const { return at_ == bytes_.size(); }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<uint8_t>(bytes_.at(at_++));
      value |= uint64_t{byte & 0x7fu} << shift;
      if ((byte & 0x80) == 0) return value;
    }
  }
  template <class T>
  T fixed() {
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  std::string bytes(uint64_t size) {
    EXPECT_LE(at_ + size, bytes_.size());
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }

 private:
  std::string bytes_;
  size_t at_ = 0;
};

std::vector<Event> read_events(const std::filesystem::path& path) {
  Reader file(get(path));
  std::vector<Event> events;
  while (!file.at_end()) {
    const std::string length = file.bytes(8);
    EXPECT_EQ(file.fixed<uint32_t>(), masked_crc32c(length));
    const std::string data = file.bytes(Reader(length).fixed<uint64_t>());
    EXPECT_EQ(file.fixed<uint32_t>(), masked_crc32c(data));
    Event& event = events.emplace_back();
    for (Reader in(data); !in.at_end();) {
      switch (in.varint()) {
        case 1 << 3 | 1:
          event.wall_time = in.fixed<double>();
          break;
        case 2 << 3 | 0:
          event.step = static_cast<int64_t>(in.varint());
          break;
        case 3 << 3 | 2:
          event.version = in.bytes(in.varint());
          break;
        case 7 << 3 | 2: {
          Reader session(in.bytes(in.varint()));
          EXPECT_EQ(session.varint(), 1u << 3);
          event.session = static_cast<int>(session.varint());
          break;
        }
        case 5 << 3 | 2:
          for (Reader summary(in.bytes(in.varint())); !summary.at_end();) {
            EXPECT_EQ(summary.varint(), 1u << 3 | 2);
            Reader value(summary.bytes(summary.varint()));
            EXPECT_EQ(value.varint(), 1u << 3 | 2);
            const std::string tag = value.bytes(value.varint());
            EXPECT_EQ(value.varint(), 2u << 3 | 5);
            event.values.emplace_back(tag, value.fixed<float>());
          }
          break;
        default:
          ADD_FAILURE() << "unknown field";
          return events;
      }
    }
  }
  return events;
}

std::vector<std::filesystem::path> event_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

TEST(EventFiles, HoldWhatTensorBoardReads) {
  TemporaryFolder folder;
  ScalarLog log(folder.path(), 0);
  log.step({{"step", 300}, {"epoch", 2}, {"loss", 0.5}, {"gradient_ratio", {{"LSIL", 2.0}}}}, true);
  log.step({{"step", 301}, {"epoch", 2}, {"loss", 0.25}}, false);
  log.validation({{"step", 301}, {"epoch", 2}, {"val_map50", 0.75}, {"val_none", nullptr}});
  const auto files = event_files(folder.path());
  ASSERT_EQ(files.size(), 1u);
  const std::vector<Event> events = read_events(files[0]);
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_GT(events[0].wall_time, 1.6e9);
  EXPECT_EQ(events[1].session, 1);
  EXPECT_EQ(events[1].step, 1);
  EXPECT_EQ(events[2].step, 300);
  using Values = std::vector<std::pair<std::string, float>>;
  EXPECT_EQ(events[2].values, (Values{{"train/epoch", 2}, {"train/loss", 0.5f}, {"gradient_ratio/LSIL", 2}}));
  EXPECT_EQ(events[3].values, (Values{{"validation/epoch", 2}, {"validation/map50", 0.75f}}));
}

TEST(ScalarLogs, AResumedTrainingDropsWhatItDoesAgain) {
  TemporaryFolder folder;
  const auto line = [](int step) { return Line{{"step", step}, {"loss", step / 2.0}, {"by_class", {{"a", 1}}}}; };
  {
    ScalarLog log(folder.path(), 0);
    for (int step = 1; step <= 5; ++step) log.step(line(step), true);
    log.validation({{"step", 2}, {"val_map50", 0.5}});
    log.validation({{"step", 4}, {"val_map50", 0.6}});
  }
  EXPECT_EQ(get(folder / "log.csv"), "step,loss\n1,0.5\n2,1.0\n3,1.5\n4,2.0\n5,2.5\n");
  std::ofstream(folder / "log.csv", std::ios::app) << "6,3";  // killed while it was written
  {
    ScalarLog log(folder.path(), 3);
    log.step(line(4), true);
  }
  EXPECT_EQ(get(folder / "log.csv"), "step,loss\n1,0.5\n2,1.0\n3,1.5\n4,2.0\n");
  EXPECT_EQ(get(folder / "validation.csv"), "step,val_map50\n2,0.5\n");
  // A second file, read after the first, whose START makes readers forget steps from 4 on.
  const auto files = event_files(folder.path());
  ASSERT_EQ(files.size(), 2u);
  const std::vector<Event> later = read_events(files[1]);
  EXPECT_EQ(later[1].session, 1);
  EXPECT_EQ(later[1].step, 4);
  EXPECT_EQ(later[2].step, 4);

  // Other columns: the old table is kept aside.
  ScalarLog log(folder.path(), 4);
  log.step({{"step", 5}, {"other", 1}}, false);
  EXPECT_EQ(get(folder / "log.csv"), "step,other\n5,1\n");
  EXPECT_HAS(get(folder / "log.1.csv"), "4,2.0");
}

TEST(ScalarLogs, ThatCannotBeWrittenEndNoTraining) {
  TemporaryFolder folder;
  std::filesystem::create_directories(folder / "log.csv");
  ScalarLog log(folder.path(), 0);
  log.step({{"step", 1}, {"loss", 1}}, true);
  ScalarLog nowhere(folder / "missing", 0);
  nowhere.step({{"step", 1}, {"loss", 1}}, true);
}

TEST(Progresses, TheMedianIsNotMovedByOneLongStep) {
  RunningMedian median(5);
  EXPECT_EQ(median.value(), 0);
  for (const double seconds : {1.0, 1.0, 90.0, 1.0}) median.add(seconds);
  EXPECT_EQ(median.value(), 1);
  for (const double seconds : {4.0, 4.0, 4.0}) median.add(seconds);  // the window forgets
  EXPECT_EQ(median.value(), 4);
  EXPECT_EQ(duration_text(249), "4:09");
  EXPECT_EQ(duration_text(3725), "1:02:05");
}

TEST(Figures, OfALog) {
  TemporaryFolder folder;
  std::string text;
  for (int step = 1; step <= 40; ++step) {
    Line line{{"step", step}, {"lr", 0.1}, {"loss", 1.0 / step}, {"loss_cls", 0.5 / step}};
    if (step % 10 == 0) {
      line["gradient_ratio"] = {{"LSIL", 0.1 * step}, {"A & <B>", 2.0}};
      line["gradient_ratio_ce"] = {{"LSIL", 0.2}, {"A & <B>", 0.3}};
      line["gradient_hard_positive"] = {{"LSIL", 0.875}, {"A & <B>", 1.0}};
      line["weight_norm"] = {{"LSIL", 1.0}, {"A & <B>", 0.25}};
    }
    text += line.dump() + "\n";
  }
  put(folder / "log.jsonl", text + "{\"step\": 40, \"epoch\": 1, \"val_map50\": 0.5}\n{\"step\": 41, \"lo");
  const TrainingFigures figures = training_figures(folder.path());
  for (const char* name : {"loss.svg", "learning_rate.svg", "validation.svg", "gradient_ratio.svg",
                           "gradient_ratio_bars.svg", "weight_norm.svg"}) {
    ASSERT_TRUE(figures.files.contains(name)) << name;
    const std::string& svg = figures.files.at(name);
    EXPECT_TRUE(svg.starts_with("<svg ") && svg.ends_with("</svg>\n")) << name;
    EXPECT_EQ(svg.find("nan"), std::string::npos) << name;
  }
  EXPECT_HAS(figures.files.at("gradient_ratio.svg"), "A &amp; &lt;B&gt;");
  EXPECT_HAS(figures.files.at("weight_norm.svg"), ">0.25<");
  EXPECT_HAS(figures.files.at("gradient_ratio_bars.svg"), "step 40");
  EXPECT_HAS(figures.text,
             "LSIL                              4            0.2        0.875            -            1\n");
  EXPECT_HAS(figures.text, "1 lines could not be read");
  put(folder / "old.jsonl", "{\"step\": 1, \"loss\": 2}\n");
  EXPECT_FALSE(training_figures(folder / "old.jsonl").files.contains("weight_norm.svg"));
  EXPECT_HAS(message_of([&] { (void)training_figures(folder / "none"); }), "none");
  put(folder / "empty.jsonl", "");
  EXPECT_HAS(message_of([&] { (void)training_figures(folder / "empty.jsonl"); }), "holds no step");
}

TEST(Figures, LongCurvesAreThinned) {
  Series few{.name = "few", .x = {1, 2}, .y = {3, 4}}, many{.name = "many"};
  thin(few);
  EXPECT_EQ(few.x.size(), 2U);
  for (int i = 0; i < 100'003; ++i) {
    many.x.push_back(i);
    many.y.push_back(2 * i);
  }
  thin(many);
  EXPECT_LE(many.x.size(), 400U);
  EXPECT_GE(many.x.size(), 390U);
  EXPECT_EQ(many.x.front(), 0);
  EXPECT_EQ(many.x.back(), 100'002);
  for (size_t i = 0; i < many.x.size(); ++i) EXPECT_EQ(many.y[i], 2 * many.x[i]);
}

}  // namespace
}  // namespace gradlibra
