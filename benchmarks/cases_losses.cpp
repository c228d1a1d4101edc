// SPDX-License-Identifier: MIT
// Kernels of the classification losses, on the rows of a dense head: one in a hundred is of a class, all weigh the
// same.
#include "benchmarks/cases.h"
#include "kernels/losses/bags.h"
#include "kernels/losses/bags_sample.h"
#include "kernels/losses/class_balanced.h"
#include "kernels/losses/class_gradients.h"
#include "kernels/losses/count_labels.h"
#include "kernels/losses/cross_entropy.h"
#include "kernels/losses/eqlv2.h"
#include "kernels/losses/focal.h"
#include "kernels/losses/grad_libra.h"
#include "kernels/losses/seesaw.h"
#include "kernels/losses/sigmoid_loss.h"
#include "kernels/scalar.h"

namespace gradlibra {

namespace {

class LossCases {
 public:
  LossCases(const CaseSizes& sizes, std::vector<KernelCase>& cases)
      : cases_(cases), R_(sizes.N * sizes.cells()), C_(sizes.classes) {}

  // What every loss reads and writes, for K channels.
  struct Rows {
    View<float> logits, weights, grad_logits;
    View<int32_t> labels;
    View<double> normalizer, value;
    [[nodiscard]] Effort effort() const { return {bytes_of(logits, weights, grad_logits) + bytes_of(labels)}; }
  };
  static Rows rows(CaseMemory& m, int64_t R, int64_t K, int64_t C) {
    std::vector<int32_t> labels(static_cast<size_t>(R), static_cast<int32_t>(C));
    for (size_t i = 0; i < labels.size(); i += 100) labels[i] = static_cast<int32_t>(i / 100) % static_cast<int32_t>(C);
    return {m.random({R, K}, -6, 2),         m.random({R}, 1, 1),  m.output({R, K}), m.upload<int32_t>({R}, labels),
            m.random<double>({1}, 100, 101), m.output<double>({1})};
  }
  void add(const char* kernel, const std::string& shape, std::function<Work(CaseMemory&)> prepare) {
    cases_.push_back({kernel, shape, dtype_name<float>(), std::move(prepare)});
  }

  // make(memory): a member of the sigmoid family.
  template <class Make>
  void sigmoid(const char* name, int64_t R, const Make& make) {
    add("sigmoid_loss", Shape{R, C_}.to_string() + " " + name, [=, C = C_](CaseMemory& m) {
      const Rows r = rows(m, R, C, C);
      const View<double> workspace = m.output<double>({kernels::sigmoid_loss_workspace(R, C)});
      const auto member = make(m);
      return m.work(r.effort(), [=](auto& device) {
        kernels::sigmoid_loss(device, r.logits, r.labels, r.weights, member,
                              {1.0, r.normalizer, r.value, r.grad_logits, workspace});
      });
    });
  }
  void sigmoid_family() {
    const int64_t R = R_, C = C_;
    sigmoid("cross_entropy", R, [](CaseMemory&) { return kernels::CrossEntropy{}; });
    sigmoid("focal", R, [](CaseMemory&) { return kernels::Focal{.alpha = 0.25}; });
    sigmoid("grad_libra", R, [](CaseMemory&) { return kernels::GradLibra{}; });
    sigmoid("grad_libra, full", R,
            [](CaseMemory&) { return kernels::GradLibra{.weight_grad = kernels::WeightGrad::full}; });
    sigmoid("grad_libra, four times the rows", 4 * R, [](CaseMemory&) { return kernels::GradLibra{}; });
    // Members that look their weight up.
    const auto weights = [C](CaseMemory& m) { return m.random({2 * C + 1}, 0.1, 4).data(); };
    sigmoid("class_balanced", R, [=](CaseMemory& m) {
      return kernels::ClassBalanced<kernels::CrossEntropy>{{}, weights(m)};
    });
    sigmoid("eqlv2", R, [=](CaseMemory& m) { return kernels::EqlV2{weights(m), static_cast<int>(C)}; });
  }

  void eqlv2() {
    const int64_t R = R_, C = C_;
    add("eqlv2_gradients", Shape{R, C}.to_string(), [=](CaseMemory& m) {
      const Rows r = rows(m, R, C, C);
      const View<float> weights = m.random({2, C}, 0.1, 4);
      const View<double> gradients = m.output<double>({2, C}),
                         workspace = m.output<double>({kernels::eqlv2_gradients_workspace(R, C)});
      return m.work({bytes_of(r.logits, r.weights) + bytes_of(r.labels)}, [=](auto& device) {
        kernels::eqlv2_gradients(device, r.logits, r.labels, r.weights, weights, gradients, workspace);
      });
    });
    add("eqlv2_scores", Shape{R, C + 1}.to_string(), [=](CaseMemory& m) {
      const View<float> logits = m.random({R, C + 1}, -6, 2), scores = m.output({R, C});
      return m.work({bytes_of(logits, scores)}, [=](auto& device) { kernels::eqlv2_scores(device, logits, scores); });
    });
  }

  // Of a few numbers: what a launch costs.
  void states() {
    const int64_t C = C_;
    add("eqlv2_weights", Shape{2, C}.to_string(), [=](CaseMemory& m) {
      const View<double> ratios = m.random<double>({C}, 0, 2);
      const View<float> weights = m.output({2, C});
      return m.work({bytes_of(ratios) + bytes_of(weights)},
                    [=](auto& device) { kernels::eqlv2_weights(device, ratios, {}, weights); });
    });
    add("eqlv2_accumulate", Shape{2, C}.to_string(), [=](CaseMemory& m) {
      const View<double> gained = m.random<double>({2, C}, 0, 1e-9), sums = m.output<double>({2, C}),
                         ratios = m.output<double>({C});
      const View<float> ok = m.random({1}, 0.5, 1);
      return m.work({bytes_of(gained, sums, sums, ratios)},
                    [=](auto& device) { kernels::eqlv2_accumulate(device, gained, ok, sums, ratios); });
    });
    add("add_if_finite", Shape{C + 1}.to_string(), [=](CaseMemory& m) {
      const View<double> x = m.random<double>({C + 1}, 0, 1e-9), y = m.output<double>({C + 1});
      const View<float> ok = m.random({1}, 0.5, 1);
      return m.work({bytes_of(x, y, y)}, [=](auto& device) { kernels::add_if_finite(device, x, ok, y); });
    });
    add("gather", Shape{C}.to_string(), [=](CaseMemory& m) {
      const View<double> x = m.random<double>({4}), y = m.output<double>({C});
      const View<int32_t> index = m.random_int({C}, 4);
      return m.work({bytes_of(x, y) + bytes_of(index)}, [=](auto& device) { kernels::gather(device, x, index, y); });
    });
    const Shape size{kernels::class_gradients_size(C)};
    add("add_class_gradients", size.to_string(), [=](CaseMemory& m) {
      const View<double> sums = m.random<double>(size, 1, 2), totals = m.output<double>(size);
      const View<float> ok = m.random({1}, 0.5, 1);
      return m.work({bytes_of(sums, totals, totals)},
                    [=](auto& device) { kernels::add_class_gradients(device, sums, ok, totals); });
    });
  }

  void seesaw() {
    const int64_t R = R_, C = C_;
    add("count_labels", Shape{R}.to_string(), [=](CaseMemory& m) {
      const Rows r = rows(m, R, 1, C);
      const View<double> counts = m.output<double>({C + 1});
      const View<int32_t> workspace = m.output<int32_t>({kernels::count_labels_workspace(C + 1)});
      return m.work({bytes_of(r.weights) + bytes_of(r.labels)},
                    [=](auto& device) { kernels::count_labels(device, r.labels, r.weights, counts, workspace); });
    });
    const std::string shape = Shape{R, C + 1}.to_string();
    add("seesaw_loss", shape, [=](CaseMemory& m) {
      const Rows r = rows(m, R, C + 1, C);
      const View<double> counts = m.random<double>({C}, 10, 1e6), gained = m.output<double>({C}),
                         workspace = m.output<double>({kernels::seesaw_loss_workspace(R)});
      return m.work(r.effort(), [=](auto& device) {
        kernels::seesaw_loss(device, r.logits, r.labels, r.weights, counts, gained, {},
                             {1.0, r.normalizer, r.value, r.grad_logits, workspace});
      });
    });
    add("seesaw_scores", shape, [=](CaseMemory& m) {
      const View<float> logits = m.random({R, C + 1}, -6, 2), scores = m.output({R, C});
      return m.work({bytes_of(logits, scores)}, [=](auto& device) { kernels::seesaw_scores(device, logits, scores); });
    });
  }

  // Three groups, the classes dealt out in turn.
  void group_softmax() {
    const int64_t R = R_, C = C_, G = std::min<int64_t>(3, C), K = 2 + G + C;
    const auto layout = [=](CaseMemory& m) {
      std::vector<int32_t> group_of, channel_of(static_cast<size_t>(C)), first{0, 2};
      for (int64_t c = 0; c < C; ++c) group_of.push_back(static_cast<int32_t>(1 + c % G));
      for (int64_t g = 0; g < G; ++g) {
        int32_t channel = first.back();
        for (int64_t c = g; c < C; c += G) channel_of[static_cast<size_t>(c)] = ++channel;
        first.push_back(channel + 1);
      }
      return kernels::BagsLayout{m.upload({C}, group_of), m.upload({C}, channel_of), m.upload({G + 2}, first)};
    };
    add("bags_sample", Shape{R}.to_string() + " 3 groups", [=](CaseMemory& m) {
      const Rows r = rows(m, R, 1, C);
      const kernels::BagsLayout l = layout(m);
      const View<double> state = m.output<double>({2}), sums = m.output<double>({G + 1});
      const View<uint8_t> sample = m.output<uint8_t>({R, G});
      int64_t size = 0;
      m.context().run([&](auto& device) { size = kernels::bags_sample_workspace(device, R, G); });
      const View<int64_t> workspace = m.output<int64_t>({size});
      return m.work({bytes_of(r.weights) + bytes_of(r.labels) + bytes_of(sample)}, [=](auto& device) {
        kernels::bags_sample(device, r.labels, r.weights, l.group_of, 8, state, 0, sample, sums, workspace);
      });
    });
    const std::string shape = Shape{R, K}.to_string();
    add("bags_loss", shape, [=](CaseMemory& m) {
      const Rows r = rows(m, R, K, C);
      const kernels::BagsLayout l = layout(m);
      // The rows of classes, and one of eight others in each group.
      std::vector<uint8_t> chosen(static_cast<size_t>(R * G), 0);
      for (size_t i = 0; i < chosen.size(); i += 37) chosen[i] = 1;
      const View<uint8_t> sample = m.upload({R, G}, chosen);
      const View<double> normalizers = m.random<double>({G + 1}, 100, 101),
                         workspace = m.output<double>({kernels::bags_loss_workspace(R)});
      return m.work(r.effort(), [=](auto& device) {
        kernels::bags_loss(device, r.logits, r.labels, r.weights, sample, l,
                           {1.0, normalizers, r.value, r.grad_logits, workspace});
      });
    });
    add("bags_scores", shape, [=](CaseMemory& m) {
      const View<float> logits = m.random({R, K}, -6, 2), scores = m.output({R, C});
      const kernels::BagsLayout l = layout(m);
      return m.work({bytes_of(logits, scores)}, [=](auto& device) { kernels::bags_scores(device, logits, l, scores); });
    });
  }

 private:
  std::vector<KernelCase>& cases_;
  int64_t R_, C_;
};

}  // namespace

void add_loss_cases(const CaseSizes& sizes, std::vector<KernelCase>& cases) {
  LossCases losses(sizes, cases);
  losses.sigmoid_family();
  losses.eqlv2();
  losses.seesaw();
  losses.group_softmax();
  losses.states();
}

}  // namespace gradlibra
