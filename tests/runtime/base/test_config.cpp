// SPDX-License-Identifier: MIT
// Reading, inheriting, overriding and writing configurations, and what is said when one is wrong.
#include "runtime/base/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "tests/files.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

struct Schedule {
  double lr = 0.002;
  int64_t steps = 10;
  std::vector<int> milestones = {16, 22};
  void describe(ConfigVisitor& v) {
    v.field("lr", lr, "learning rate");
    v.field("steps", steps, "number of steps");
    v.field("milestones", milestones, "epochs after which the rate falls");
  }
};

struct Inner {
  bool on = false;
  void describe(ConfigVisitor& v) { v.field("on", on, ""); }
};

struct Model {
  int depth = 18;
  std::string loss = "grad_libra";
  Inner inner;
  void describe(ConfigVisitor& v) {
    v.field("depth", depth, "layers of the backbone");
    v.choice("loss", loss, {"cross_entropy", "focal", "grad_libra"}, "classification loss");
    v.section("inner", inner, "a section in a section");
  }
};

struct Config {
  std::string name = "plain";
  bool fast = true;
  std::vector<double> scales;
  std::vector<std::string> classes = {"a", "b"};
  std::map<std::string, std::vector<std::string>> groups;
  Schedule schedule;
  Model model;
  void describe(ConfigVisitor& v) {
    v.field("name", name, "name of the run");
    v.field("fast", fast, "");
    v.field("scales", scales, "scales");
    v.field("classes", classes, "class names");
    v.field("groups", groups, "class groups");
    v.section("schedule", schedule, "how training proceeds");
    v.section("model", model, "what is trained");
  }
};

Config parse(const std::string& yaml) {
  Config config;
  ConfigSource::from_text(yaml, "test.yaml").read_into(config);
  return config;
}

std::string parse_error(const std::string& yaml) {
  return message_of<ConfigError>([&] { (void)parse(yaml); });
}

class ConfigFiles : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_ / "sub"); }
  std::filesystem::path write(const std::string& name, const std::string& text) const {
    put(folder_ / name, text);
    return folder_ / name;
  }
  static Config read(const std::filesystem::path& file, const std::vector<std::string>& overrides = {}) {
    Config config;
    ConfigSource(file, overrides).read_into(config);
    return config;
  }
  TemporaryFolder folder_;
};

TEST(Config, ReadsEveryKind) {
  const Config config = parse(
      "name: \"two words\"\n"
      "fast: false\n"
      "scales: [0.5, 1, -2e-3, .inf]\n"
      "classes:\n- HSIL\n- '10'\n- 12\n"
      "groups: {rare: [HSIL], common: []}\n"
      "schedule:\n  lr: 1e-2\n  steps: 9223372036854775807\n  milestones: []\n"
      "model:\n  depth: -3\n  loss: focal\n  inner: {on: true}\n");
  EXPECT_EQ(config.name, "two words");
  EXPECT_FALSE(config.fast);
  EXPECT_EQ(config.scales, (std::vector<double>{0.5, 1, -2e-3, std::numeric_limits<double>::infinity()}));
  EXPECT_EQ(config.classes, (std::vector<std::string>{"HSIL", "10", "12"}));
  EXPECT_EQ(config.groups, (std::map<std::string, std::vector<std::string>>{{"common", {}}, {"rare", {"HSIL"}}}));
  EXPECT_EQ(config.schedule.lr, 1e-2);
  EXPECT_EQ(config.schedule.steps, std::numeric_limits<int64_t>::max());
  EXPECT_TRUE(config.schedule.milestones.empty());
  EXPECT_EQ(config.model.depth, -3);
  EXPECT_EQ(config.model.loss, "focal");
  EXPECT_TRUE(config.model.inner.on);
}

TEST(Config, StoredTextTakesOverrides) {
  Config config;
  ConfigSource::from_text("schedule: {lr: 1, steps: 2}\n", "stored", {"schedule.lr=3", "name=again"}).read_into(config);
  EXPECT_EQ(config.schedule.lr, 3);
  EXPECT_EQ(config.schedule.steps, 2);
  EXPECT_EQ(config.name, "again");
}

TEST(Config, AbsentKeysKeepTheirDefaults) {
  for (const char* text : {"", "# nothing\n", "schedule:\nmodel:\n", "{}"}) {
    const Config config = parse(text);
    EXPECT_EQ(config.schedule.lr, 0.002) << text;
    EXPECT_EQ(config.classes.size(), 2u) << text;
  }
}

TEST(Config, UnknownKeyNamesFileLineAndNearestKey) {
  expect_mentions(parse_error("name: x\nschedule:\n  lr: 1\n  step: 4\n"),
                  {"test.yaml:4", "'schedule.step'", "did you mean 'schedule.steps'"});
  expect_mentions(parse_error("lr: 3\n"), {"test.yaml:1", "'lr'", "did you mean 'schedule.lr'"});
  expect_mentions(parse_error("model: {Loss: focal}\n"), {"did you mean 'model.loss'"});
  expect_mentions(parse_error("shedule: {lr: 1}\n"), {"did you mean 'schedule'"});
  expect_mentions(parse_error("schedule: {zzzzzzzzzz: 1}\n"), {"nearest known key is", "lr, steps, milestones"});
  expect_mentions(parse_error("one: 1\ntwo: 2\n"),
                  {"test.yaml:1: unknown key 'one'", "test.yaml:2: unknown key 'two'"});
  expect_mentions(parse_error(std::string(900, 'k') + ": 1\n"), {"unknown key"});
  // As the command line spells it, it would be read by nobody.
  expect_mentions(parse_error("schedule.lr: 1\n"),
                  {"test.yaml:1: unknown key 'schedule.lr'", "nests its keys, as in schedule: {lr: ..}"});
}

TEST(Config, WrongTypesSayWhatWasFoundAndExpected) {
  expect_mentions(parse_error("schedule:\n  lr: fast\n"), {"test.yaml:2", "schedule.lr", "'fast'", "a number"});
  expect_mentions(parse_error("schedule: {lr: \"0.1\"}"), {"the string \"0.1\"", "a number"});
  expect_mentions(parse_error("schedule: {lr: nan}"), {"a number"});
  expect_mentions(parse_error("schedule: {lr: 1e999}"), {"a number"});
  expect_mentions(parse_error("schedule: {lr: 0.1x}"), {"a number"});
  expect_mentions(parse_error("schedule: {steps: 1.5}"), {"schedule.steps", "an integer"});
  expect_mentions(parse_error("model: {depth: 3000000000}"), {"model.depth", "2147483647"});
  expect_mentions(parse_error("schedule: {steps: 9223372036854775808}"), {"9223372036854775807"});
  expect_mentions(parse_error("fast: 1"), {"fast", "true or false"});
  expect_mentions(parse_error("fast: yes"), {"'yes'", "true or false"});
  expect_mentions(parse_error("name:\n"), {"name", "nothing", "a string"});
  expect_mentions(parse_error("name: [a]"), {"a list", "a string"});
  expect_mentions(parse_error("classes: a"), {"'a'", "a list"});
  expect_mentions(parse_error("schedule:\n  milestones: [1,\n   b]"),
                  {"test.yaml:3", "schedule.milestones[1]", "'b'", "an integer"});
  expect_mentions(parse_error("groups: {rare: a}"), {"groups.rare", "a list"});
  expect_mentions(parse_error("groups: [a]"), {"groups", "names with lists"});
  expect_mentions(parse_error("model: 3"), {"model", "'3'", "a section"});
  expect_mentions(parse_error("model: {loss: focl}"),
                  {"model.loss", "cross_entropy, focal, grad_libra", "did you mean 'focal'"});
}

TEST(Config, RefusesWhatIsNotAPlainMapping) {
  expect_mentions(parse_error("name: a\nfast: true\nname: b\n"), {"test.yaml:3", "duplicate key 'name'", "line 1"});
  expect_mentions(parse_error("- a\n"), {"test.yaml:1", "a list", "key: value"});
  expect_mentions(parse_error("just text"), {"a single value"});
  expect_mentions(parse_error("a: b: c\n"), {"test.yaml:1", "not valid YAML"});
  for (const char* text : {"name: \"open", "name: \"open\n", "name: \"open\nfast: true\n", "name: 'open\n",
                           "name: [open\n", "fast: true\n..."}) {
    expect_mentions(parse_error(text), {text[0] == 'n' ? "not valid YAML" : ""});
  }
  expect_mentions(parse_error("name: a\n---\nname: b\n"), {"second YAML document"});
  expect_mentions(parse_error("[a]: b\n"), {"a key must be text"});
  expect_mentions(parse_error("~: b\n"), {"a key must be text"});
  expect_mentions(parse_error("name: !!python/object:os.system x\n"), {"tags"});
  expect_mentions(parse_error("model: &m {depth: 3}\nschedule: {<<: *m}\n"), {"merge keys"});
  expect_mentions(parse_error("base: other.yaml\n"), {"'base'"});
}

// A byte that a parser might take for the end must not hide what follows.
TEST(Config, ControlCharactersHideNothing) {
  for (const char byte : {'\0', '\x04', '\x1a'}) {
    for (const std::string& separator :
         {std::string(1, byte), "\n" + std::string(1, byte) + "\n", "\n" + std::string(1, byte)}) {
      EXPECT_NE(parse_error("name: a" + separator + "unknown_key: 3\n"), "") << static_cast<int>(byte);
    }
  }
}

TEST(Config, AliasesExpandWithinBounds) {
  EXPECT_EQ(parse("name: &n hello\nclasses: [*n, *n]\n").classes, (std::vector<std::string>{"hello", "hello"}));
  std::string laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string below = "*a" + std::to_string(i - 1);
    laughs += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) laughs += below + (j < 9 ? ", " : "]\n");
  }
  expect_mentions(parse_error(laughs), {"more than 100000 values"});
  std::string tower = "a0: &a0 [x]\n";
  for (int i = 1; i < 60; ++i)
    tower += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) + "]\n";
  expect_mentions(parse_error(tower), {"levels deep"});
  expect_mentions(parse_error("a: &a [*a]\n"), {"test.yaml"});
}

TEST(Config, DeepNestingAndSizeAreRefused) {
  expect_mentions(parse_error("a: " + std::string(500'000, '[')), {"levels deep"});
  expect_mentions(parse_error("a: " + std::string(500'000, '{')), {"test.yaml"});
  std::string blocks;
  for (int i = 0; i < 500; ++i) blocks += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  expect_mentions(parse_error(blocks), {"levels deep"});
  expect_mentions(parse_error("# " + std::string(1 << 20, 'x')), {"1 MB"});
}

TEST(Config, MutatedFilesNeverCrash) {
  const std::string good = to_yaml(Config(), true);
  std::mt19937 random(7);
  const std::string marks = "[]{}:,&*!|>'\"%@`#-?\n\t \\\xff<=";
  for (int round = 0; round < 3000; ++round) {
    std::string text = good;
    for (int edits = 1 + static_cast<int>(random() % 4); edits > 0; --edits) {
      const size_t at = random() % text.size();
      const char mark = random() % 8 == 0 ? static_cast<char>(random() & 255) : marks[random() % marks.size()];
      if (random() % 2 == 0) {
        text[at] = mark;
      } else {
        text.insert(at, 1, mark);
      }
    }
    try {
      (void)parse(text);
    } catch (const ConfigError&) {  // any other exception fails the test
    }
  }
}

TEST_F(ConfigFiles, BaseIsInheritedAndTheFileWins) {
  write("root.yaml", "name: root\nclasses: [x, y, z]\nschedule: {lr: 1, steps: 5}\ngroups: {rare: [x]}\n");
  write("sub/middle.yaml", "base: ../root.yaml\nschedule:\n  lr: 2\nclasses: [q]\ngroups: {common: [y]}\n");
  const Config config = read(write("leaf.yaml", "base: sub/middle.yaml\nmodel: {depth: 50}\nschedule:\n"));
  EXPECT_EQ(config.name, "root");
  EXPECT_EQ(config.schedule.lr, 2);
  EXPECT_EQ(config.schedule.steps, 5);
  EXPECT_EQ(config.classes, (std::vector<std::string>{"q"}));  // lists replace
  EXPECT_EQ(config.groups.size(), 2u);                         // mappings merge
  EXPECT_EQ(config.model.depth, 50);
}

TEST_F(ConfigFiles, ErrorsNameTheFileThatHasTheKey) {
  write("root.yaml", "name: root\nschedule:\n  lrr: 1\n");
  const auto leaf = write("leaf.yaml", "base: root.yaml\nschedule: {steps: 5}\n");
  expect_mentions(message_of<ConfigError>([&] { (void)read(leaf); }), {"root.yaml:3", "did you mean 'schedule.lr'"});
}

TEST_F(ConfigFiles, BadBases) {
  const auto missing = write("missing.yaml", "name: a\nbase: nowhere.yaml\n");
  expect_mentions(message_of<ConfigError>([&] { (void)read(missing); }),
                  {"missing.yaml:2", "nowhere.yaml", "No such file"});
  write("one.yaml", "base: two.yaml\n");
  write("two.yaml", "base: sub/../one.yaml\n");
  expect_mentions(message_of<ConfigError>([&] { (void)read(folder_ / "one.yaml"); }),
                  {"two.yaml:1", "inherits from itself"});
  expect_mentions(message_of<ConfigError>([&] { (void)read(write("list.yaml", "base: [a]\n")); }),
                  {"list.yaml:1", "base"});
  expect_mentions(message_of<ConfigError>([&] { (void)read(folder_ / "sub"); }), {"is a folder"});
  expect_mentions(message_of<ConfigError>([&] { (void)read(folder_ / "none.yaml"); }), {"none.yaml", "No such file"});
  expect_mentions(message_of<ConfigError>([&] { (void)read(write("big.yaml", "# " + std::string(1 << 20, 'x'))); }),
                  {"big.yaml", "1 MB"});
}

TEST_F(ConfigFiles, OverridesWinInOrder) {
  const auto file = write("a.yaml", "schedule: {lr: 1, steps: 2}\nclasses: [x]\n");
  const Config config = read(file, {"schedule.lr=5", "schedule.lr=6", "classes=[p, q]", "model.inner.on=true",
                                    "name=", "groups.rare=[p]", "schedule={steps: 9}"});
  EXPECT_EQ(config.schedule.lr, 6);
  EXPECT_EQ(config.schedule.steps, 9);
  EXPECT_EQ(config.classes, (std::vector<std::string>{"p", "q"}));
  EXPECT_TRUE(config.model.inner.on);
  EXPECT_EQ(config.name, "");
  EXPECT_EQ(config.groups.at("rare"), (std::vector<std::string>{"p"}));
  EXPECT_EQ(read({}, {"name=a=b"}).name, "a=b");  // no file: defaults and overrides
}

// What YAML would cut off, take for a mapping or refuse is part of a string.
TEST_F(ConfigFiles, StringOverridesAreTakenWhole) {
  for (const std::string text : {"/data/run #3/cells",
                                 "#3",
                                 "a: b",
                                 "run: 3 # of 4",
                                 "it's",
                                 "say \"so\"",
                                 "\"half",
                                 "[2021",
                                 "- a",
                                 "*x",
                                 "&x",
                                 "!x",
                                 "%d",
                                 "@home",
                                 "`x",
                                 "C:\\new",
                                 "a, b",
                                 "  spaces  ",
                                 "'a' and 'b'",
                                 "07",
                                 "1e3",
                                 "> x",
                                 "a\tb"})
    EXPECT_EQ(read({}, {"name=" + text}).name, text);
  EXPECT_EQ(read({}, {"name=\"quoted # once\""}).name, "quoted # once");
  EXPECT_EQ(read({}, {"name='it''s'"}).name, "it's");
  EXPECT_EQ(read({}, {"name=\"\""}).name, "");
  // Numbers and lists stay YAML.
  EXPECT_EQ(read({}, {"schedule.steps=7 # seven"}).schedule.steps, 7);
  EXPECT_EQ(read({}, {"classes=[\"a #3\", \"b: c\"]"}).classes, (std::vector<std::string>{"a #3", "b: c"}));
  // And what was taken whole is written so that it is read back.
  const Config config = read({}, {"name=/data/run #3: 'a' \"b\""});
  EXPECT_EQ(parse(to_yaml(config)).name, "/data/run #3: 'a' \"b\"");
}

struct Ranged {
  int epochs = 12;
  int64_t seed = 1;
  double lr = 0.1, share = 0.5;
  std::vector<double> std = {1, 2};
  std::vector<int> steps = {8};
  void describe(ConfigVisitor& v) {
    v.field("epochs", epochs, "passes", at_least(1));
    v.field("seed", seed, "", at_least(0));
    v.field("lr", lr, "", above(0));
    v.field("share", share, "", between(0, 1));
    v.field("std", std, "", above(0));
    v.field("steps", steps, "", at_least(0));
  }
};

TEST_F(ConfigFiles, NumbersOutsideTheirRangeAreRefused) {
  const auto given = [](const std::string& text) {
    Ranged config;
    return message_of<ConfigError>([&] { ConfigSource({}, {text}).read_into(config); });
  };
  for (const char* good : {"epochs=1", "seed=0", "seed=9223372036854775807", "lr=1e-300", "share=0", "share=1",
                           "std=[0.5]", "std=[]", "steps=[0, 1]"})
    EXPECT_EQ(given(good), "") << good;
  expect_mentions(given("epochs=0"), {"epochs: found '0', expected at least 1"});
  expect_mentions(given("epochs=-3"), {"epochs: found '-3', expected at least 1"});
  expect_mentions(given("seed=-1"), {"seed: found '-1', expected at least 0"});
  expect_mentions(given("lr=0"), {"lr: found '0', expected above 0"});
  expect_mentions(given("lr=-1"), {"expected above 0"});
  expect_mentions(given("share=1.5"), {"expected 0 to 1"});
  expect_mentions(given("std=[1, 0]"), {"std[1]: found '0', expected above 0"});
  expect_mentions(given("steps=[1, -1]"), {"steps[1]: found '-1', expected at least 0"});
  for (const char* value : {".nan", ".inf", "-.inf"})
    expect_mentions(given("lr=" + std::string(value)), {"lr: found '" + std::string(value) + "', expected above 0"});
  EXPECT_NE(to_yaml(Ranged{}, true).find("epochs: 12  # passes (at least 1)"), std::string::npos);
}

TEST(Config, DifferencesNameKeysAndBothValues) {
  const Config before = parse("{name: a, groups: {rare: [x]}}");
  Config now = before;
  EXPECT_TRUE(config_differences(values_of(before), values_of(now)).empty());
  now.name = "b c";
  now.schedule.milestones = {3};
  now.model.inner.on = true;
  now.groups["rare"].push_back("z");
  EXPECT_EQ(config_differences(values_of(before), values_of(now)),
            (std::vector<std::string>{"name: a, now \"b c\"", "groups: {rare: [x]}, now {rare: [x, z]}",
                                      "schedule.milestones: [16, 22], now [3]", "model.inner.on: false, now true"}));
}

TEST_F(ConfigFiles, BadOverrides) {
  const auto error = [](const std::string& text) { return message_of<ConfigError>([&] { (void)read({}, {text}); }); };
  expect_mentions(error("schedule.lr"), {"command line 'schedule.lr'", "key.path=value"});
  expect_mentions(error("=3"), {"empty key"});
  expect_mentions(error("schedule..lr=3"), {"empty key"});
  expect_mentions(error("schedule.lr=abc"), {"command line 'schedule.lr=abc'", "'abc'", "a number"});
  expect_mentions(error("schedule.lr="), {"a number"});
  expect_mentions(error("shcedule.lr=3"), {"did you mean 'schedule"});
  expect_mentions(error("classes.0=x"), {"classes", "a section", "a list"});
  expect_mentions(error("schedule=3"), {"schedule", "a section"});
  expect_mentions(error("classes=[a"), {"not valid YAML", "expected a list"});
  expect_mentions(error("classes=[a #3, b]"), {"not valid YAML", "expected a list"});
  expect_mentions(error("name=[a, b]"), {"found a list", "a string"});
  expect_mentions(error("name={a: b}"), {"found a section", "a string"});
  expect_mentions(error("name=null"), {"found nothing", "a string"});
  expect_mentions(error("model.loss=foccal #3"), {"did you mean 'focal'"});
  expect_mentions(error("base=x.yaml"), {"base"});
  expect_mentions(error(std::string(100, '.') + "=1"), {"empty key"});
}

TEST(Config, WriterRoundTripsExactly) {
  Config config;
  config.name =
      "tab\t, quote \", back\\slash, \n line, \x01 control, # not a comment: é \xC2\x85 \xE2\x80\xA8 \xEF\xBB\xBF";
  config.fast = false;
  config.scales = {0.1,
                   1.0 / 3,
                   1e-300,
                   5e-324,
                   -0.0,
                   1.7976931348623157e308,
                   std::numeric_limits<double>::infinity(),
                   -std::numeric_limits<double>::infinity(),
                   123456789012345678.0};
  config.classes = {"true",
                    "null",
                    "~",
                    "",
                    " lead",
                    "yes",
                    "12",
                    "0x1f",
                    "a: b",
                    "- a",
                    "a b",
                    "*x",
                    "&x",
                    "1e5",
                    "No",
                    "C:\\x",
                    "a,b",
                    "[x]",
                    "{y}",
                    "a long name that makes the list too long for one line of the file",
                    "another one for good measure"};
  config.groups = {{"plain", {"a", "b c"}}, {"", {}}, {"odd: key", {"#"}}, {"null", {"null"}}};
  config.schedule.lr = 0.1 + 0.2;
  config.schedule.steps = std::numeric_limits<int64_t>::min();
  config.schedule.milestones = {};
  config.model.depth = std::numeric_limits<int>::min();
  config.model.loss = "focal";
  for (const bool docs : {false, true}) {
    const std::string yaml = to_yaml(config, docs);
    const Config back = parse(yaml);
    EXPECT_EQ(back.name, config.name) << yaml;
    EXPECT_EQ(back.fast, config.fast);
    EXPECT_EQ(back.scales, config.scales) << yaml;
    EXPECT_TRUE(std::signbit(back.scales[4]));
    EXPECT_EQ(back.classes, config.classes) << yaml;
    EXPECT_EQ(back.groups, config.groups) << yaml;
    EXPECT_EQ(back.schedule.lr, config.schedule.lr);
    EXPECT_EQ(back.schedule.steps, config.schedule.steps);
    EXPECT_EQ(back.schedule.milestones, config.schedule.milestones);
    EXPECT_EQ(back.model.depth, config.model.depth);
    EXPECT_EQ(back.model.loss, config.model.loss);
    EXPECT_EQ(to_yaml(back, docs), yaml);
  }
  config.schedule.lr = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(std::isnan(parse(to_yaml(config)).schedule.lr));
}

TEST(Config, WriterExplainsEveryKey) {
  const std::string yaml = to_yaml(Config(), true);
  expect_mentions(
      yaml,
      {"# how training proceeds\nschedule:\n", "  lr: 0.002  # learning rate\n", "  milestones: [16, 22]  # epochs",
       "  loss: grad_libra  # classification loss: cross_entropy | focal | grad_libra\n", "groups: {}"});
  EXPECT_EQ(to_yaml(Config()).find('#'), std::string::npos);
}

}  // namespace
}  // namespace gradlibra
