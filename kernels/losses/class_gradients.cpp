// SPDX-License-Identifier: MIT
#include "kernels/losses/class_gradients.h"

#include <algorithm>
#include <cmath>

#include "kernels/parallel.h"

namespace gradlibra::kernels {

int64_t class_gradients_workspace(int64_t rows, int64_t classes) {
  return chunk_count(rows, kClassGradientRows) * class_gradients_size(classes);
}

void check_class_gradients(View<const float> logits, View<const float> grad_logits, View<const int32_t> labels,
                           View<const float> weights, View<const int32_t> channels, View<const double> normalizers,
                           View<double> sums, View<double> workspace) {
  const char* op = "class_gradients";
  require(logits.rank() == 2, op, "logits must be (R, K), are " + logits.shape().to_string());
  require(channels.rank() == 1 && channels.size() > 0, op,
          "channels must be (C) with C > 0, are " + channels.shape().to_string());
  const int64_t R = logits.dim(0), C = channels.size();
  require_shape(op, "grad_logits", grad_logits, logits.shape());
  require_shape(op, "labels", labels, {R});
  require_shape(op, "weights", weights, {R});
  require(normalizers.rank() == 1 && (normalizers.size() == 1 || normalizers.size() == C), op,
          "normalizers must be (1) or (C), are " + normalizers.shape().to_string());
  require_shape(op, "sums", sums, {class_gradients_size(C)});
  require(workspace.size() >= class_gradients_workspace(R, C), op, "workspace is too small");
}

void check_add_class_gradients(View<const double> sums, View<const float> ok, View<double> totals) {
  require(sums.rank() == 1 && sums.size() % 6 == 1, "add_class_gradients",
          "sums must be (6 C + 1), are " + sums.shape().to_string());
  require_shape("add_class_gradients", "totals", totals, sums.shape());
  require_shape("add_class_gradients", "ok", ok, {1});
}

void class_gradients(Cpu& cpu, View<const float> logits, View<const float> grad_logits, View<const int32_t> labels,
                     View<const float> weights, View<const int32_t> channels, View<const double> normalizers,
                     const ClassGradients& options, View<double> sums, View<double> workspace) {
  check_class_gradients(logits, grad_logits, labels, weights, channels, normalizers, sums, workspace);
  const int64_t R = logits.dim(0), K = logits.dim(1), C = channels.size(), size = class_gradients_size(C);
  parallel_chunks(cpu, R, kClassGradientRows, [&](int64_t chunk, int64_t begin, int64_t end) {
    double* const part = workspace.data() + chunk * size;
    std::fill_n(part, size, 0.0);
    for (int64_t i = begin; i < end; ++i) {
      if (weights[i] == 0 || labels[i] < 0) continue;
      part[4 * C] += 1;
      for (int64_t c = 0; c < C; ++c) {
        const bool positive = labels[i] == c;
        const float z = logits[i * K + channels[c]], grad = grad_logits[i * K + channels[c]];
        if (!positive && !options.every_row && grad == 0) continue;
        const float t = positive ? -z : z;
        const float e = std::exp(-std::abs(t));
        const float hardness = (t >= 0 ? 1 : e) / (1 + e);  // sigmoid(t) = |p - y|
        double* const at = part + (positive ? 0 : C) + c;
        at[0] += double{weights[i]} * double{hardness};
        at[2 * C] += double{std::abs(grad)};
        if (t > 0) at[4 * C + 1] += double{std::abs(grad)};
      }
    }
  });
  std::fill_n(sums.data(), size, 0.0);
  for (int64_t chunk = 0; chunk < chunk_count(R, kClassGradientRows); ++chunk)
    for (int64_t j = 0; j < size; ++j) sums[j] += workspace[chunk * size + j];
  for (int64_t c = 0; c < C; ++c) {
    const double normalizer = normalizers[normalizers.size() == 1 ? 0 : c];
    const double factor = options.loss_weight == 0 ? 0 : normalizer / options.loss_weight;
    for (const int64_t first : {2 * C, 3 * C, 4 * C + 1, 5 * C + 1}) sums[first + c] *= factor;
  }
}

void add_class_gradients(Cpu&, View<const double> sums, View<const float> ok, View<double> totals) {
  check_add_class_gradients(sums, ok, totals);
  if (!std::isfinite(ok[0])) return;
  const int64_t count = sums.size() / 6 * 4;
  const double rows = sums[count];
  for (int64_t j = 0; j < sums.size(); ++j)
    if (j != count && rows > 0) totals[j] += sums[j] / rows;
  totals[count] += 1;
}

}  // namespace gradlibra::kernels
