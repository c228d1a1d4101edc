// SPDX-License-Identifier: MIT
// Buckets of gradients: how they are cut, when their sums begin, in which order, and that they come to the same.
#include "runtime/training/gradient_buckets.h"

#include <algorithm>
#include <random>

#include "tests/support.h"

namespace gradlibra {
namespace {

using Floats = std::vector<float>;

// Doubles what it sums, as two ranks with the same gradients do, but not before join_sums().
class Doubling : public Communicator {
 public:
  explicit Doubling(int ranks = 2) : ranks_(ranks) {}
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int world_size() const override { return ranks_; }
  void sum(View<float>) override { FAIL() << "not beside the stream"; }
  void sum(View<double>) override { FAIL(); }
  void broadcast(View<float>, int) override { FAIL(); }
  void barrier() override { FAIL(); }
  std::vector<std::string> gather(const std::string& own) override { return {own}; }
  void begin_sum(View<float> values) override {
    begun.push_back(values);
    sizes.push_back(values.size());
  }
  void join_sums() override {
    for (const View<float>& part : std::exchange(begun, {}))
      for (int64_t i = 0; i < part.size(); ++i) part[i] *= 2;
    ++joins;
  }
  std::vector<View<float>> begun;
  std::vector<int64_t> sizes;  // of all that were ever begun
  int joins = 0;

 private:
  int ranks_;
};

constexpr double kFloats = 4.0 / (1 << 20);  // one float, in MB

class GradientBucketsTest : public ::testing::Test {
 protected:
  Parameter& add(const std::string& name, int64_t size, bool trainable = true) {
    return store.add(name, {size}, {}, Role::other, trainable);
  }
  void write(Parameter& p, float value) {
    context.upload<float>(Floats(static_cast<size_t>(p.node.value.size()), value), p.node.grad);
    p.node.grad_written = true;
  }
  Floats get(const Tensor& tensor) { return context.download<float>(tensor); }

  Context context{1, ConvolutionLibrary::plain};
  ParameterStore store{context};
};

TEST_F(GradientBucketsTest, AreCutFromTheEndAndCoverEverything) {
  add("frozen", 50, false);
  add("a", 100);
  add("b", 16);
  add("buffer", 7, false);
  add("c", 40);
  add("d", 5);
  store.allocate();
  Doubling ranks;
  const GradientBuckets buckets(store, ranks, {.first_mb = 10 * kFloats, .mb = 60 * kFloats});
  const auto& all = buckets.buckets();
  ASSERT_EQ(all.size(), 3u);
  // d alone fills the first, c and b the second (with a buffer between them), the third ends before it is full.
  EXPECT_EQ(all[0].size, 1);
  EXPECT_EQ(all[1].size, 2);
  EXPECT_EQ(all[2].size, 1);
  int64_t end = store.flat_grads().size();
  for (const auto& bucket : all) {
    EXPECT_EQ(bucket.gradients.end, end);
    end = bucket.gradients.begin;
    EXPECT_EQ(bucket.gradients.begin % 16, 0) << "64 bytes";
  }
  EXPECT_EQ(end, 0);
}

TEST_F(GradientBucketsTest, BeginInOneOrderWhateverBecomesReadyFirst) {
  std::vector<Parameter*> all;
  for (int i = 0; i < 5; ++i) all.push_back(&add("p" + std::to_string(i), 16 * (i + 1)));
  store.allocate();
  Doubling ranks;
  GradientBuckets buckets(store, ranks, {.first_mb = kFloats, .mb = kFloats});
  ASSERT_EQ(buckets.buckets().size(), 5u);
  std::mt19937 random(3);
  for (int step = 0; step < 20; ++step) {
    std::vector<size_t> order{0, 1, 2, 3, 4};
    std::shuffle(order.begin(), order.end(), random);
    ranks.sizes.clear();
    for (size_t i = 0; i < 5; ++i) write(*all[i], static_cast<float>(i + 1));
    std::vector<bool> told(5);
    for (const size_t i : order) {
      buckets.ready(all[i]->node);
      told[i] = true;
      size_t complete = 0;  // from the end of the network
      while (complete < 5 && told[4 - complete]) ++complete;
      EXPECT_EQ(ranks.begun.size(), complete);
    }
    buckets.finish();
    EXPECT_EQ(ranks.sizes, (std::vector<int64_t>{80, 64, 48, 32, 16}));
    EXPECT_EQ(ranks.joins, step + 1);
    for (size_t i = 0; i < 5; ++i) EXPECT_EQ(get(all[i]->node.grad)[0], static_cast<float>(2 * (i + 1)));
  }
}

TEST_F(GradientBucketsTest, FinishTakesWhatNeverBecameReady) {
  Parameter& used = add("used", 3);
  Parameter& unused = add("unused", 3);
  add("frozen", 3, false);
  store.allocate();
  Doubling ranks;
  GradientBuckets buckets(store, ranks, {.first_mb = kFloats, .mb = kFloats});
  write(unused, 9);  // of the step before
  unused.node.grad_written = false;
  write(used, 1);
  buckets.ready(used.node);
  EXPECT_TRUE(ranks.begun.empty()) << "the bucket before it is not complete";
  buckets.finish();
  EXPECT_EQ(get(used.node.grad), Floats(3, 2));
  EXPECT_EQ(get(unused.node.grad), Floats(3, 0));
  EXPECT_FALSE(used.node.grad_written);
}

// What branches have computed is added up bucket by bucket: the same bits as at once.
TEST_F(GradientBucketsTest, BranchesAreAddedUpBeforeTheirBucketIsSummed) {
  std::vector<Parameter*> all;
  for (int i = 0; i < 6; ++i) all.push_back(&add("p" + std::to_string(i), 5 + 13 * i));
  store.allocate();
  store.share_between_branches({2, 5}, 4);
  const auto fill = [&](uint32_t seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> value(-1, 1);
    const auto write_random = [&](Tensor& grad, bool& written) {
      Floats values(static_cast<size_t>(grad.size()));
      for (float& v : values) v = value(random);
      context.upload<float>(values, grad);
      written = random() % 4 != 0;  // some were not written in this step
    };
    for (Parameter* p : all) {
      write_random(p->node.grad, p->node.grad_written);
      for (auto& part : p->node.branch_grads) write_random(part.grad, part.written);
    }
  };
  for (const double mb : {kFloats, 40 * kFloats, 90 * kFloats, 1e3 * kFloats}) {
    fill(8);
    store.finish_backward();
    Floats want = get(store.flat_grads());
    for (float& v : want) v *= 2;
    Doubling ranks;
    GradientBuckets buckets(store, ranks, {.first_mb = kFloats, .mb = mb});
    fill(8);
    for (auto p = all.rbegin(); p != all.rend(); ++p) buckets.ready((*p)->node);
    buckets.finish();
    EXPECT_TRUE(testing::same_bits(get(store.flat_grads()), want)) << mb;
  }
}

// As NCCL's registered memory.
TEST_F(GradientBucketsTest, LieWhereTheCommunicatorSumsBest) {
  struct Registered : Doubling {
    View<float> memory_for_sums(int64_t size) override {
      memory.assign(static_cast<size_t>(size), testing::kNaN);
      return {memory.data(), {size}};
    }
    Floats memory;
  } ranks;
  Parameter& a = add("a", 3);
  add("frozen", 3, false);
  Parameter& b = add("b", 20);
  store.allocate();
  GradientBuckets buckets(store, ranks, {});
  EXPECT_EQ(store.flat_grads().view().data(), ranks.memory.data());
  EXPECT_EQ(get(store.flat_grads()), Floats(ranks.memory.size(), 0));
  write(a, 1);
  write(b, 2);
  EXPECT_EQ(ranks.memory[0], 1);
  EXPECT_EQ(ranks.memory[16], 2);
  buckets.finish();
  EXPECT_EQ(ranks.memory[16], 4);
  EXPECT_EQ(get(b.node.grad), Floats(20, 4));
  Floats other(5);
  EXPECT_THROW(store.move_gradients({other.data(), {5}}), std::invalid_argument);
}

TEST_F(GradientBucketsTest, OneRankSumsNothing) {
  Parameter& a = add("a", 3);
  Parameter& b = add("b", 3);
  store.allocate();
  Doubling ranks(1);
  GradientBuckets buckets(store, ranks, {});
  EXPECT_TRUE(buckets.buckets().empty());
  write(a, 4);
  buckets.ready(a.node);
  buckets.finish();
  EXPECT_EQ(get(a.node.grad), Floats(3, 4));
  EXPECT_EQ(get(b.node.grad), Floats(3, 0));
  EXPECT_EQ(ranks.joins, 0);
}

}  // namespace
}  // namespace gradlibra
