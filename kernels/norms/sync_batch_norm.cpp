// SPDX-License-Identifier: MIT
#include "kernels/norms/sync_batch_norm.h"

#include <cmath>

namespace gradlibra::kernels {

void pack_moments(Cpu&, int64_t rows, View<const float> mean, View<const float> var, View<double> sums) {
  const int64_t C = check_sync_norm("pack_moments", sums, mean, var);
  const auto m = static_cast<double>(rows);
  sums[0] = m;
  for (int64_t c = 0; c < C; ++c) {
    const auto average = static_cast<double>(mean[c]);
    sums[1 + c] = m * average;
    sums[1 + C + c] = sum_of_squares(m, average, static_cast<double>(var[c]));
  }
}

void unpack_moments(Cpu&, View<const double> sums, const MomentsOfAll& to) {
  const int64_t C = check_unpack_moments(sums, to);
  for (int64_t c = 0; c < C; ++c) {
    const ChannelMoments all(sums[0], sums[1 + c], sums[1 + C + c]);
    to.mean[c] = static_cast<float>(all.mean);
    to.rstd[c] = static_cast<float>(1 / std::sqrt(all.variance() + static_cast<double>(to.eps)));
    const RunningStatistics& running = to.running;
    if (running.mean.data() == nullptr) continue;
    running.mean[c] = toward(running.mean[c], to.mean[c], running.momentum);
    running.var[c] = toward(running.var[c], static_cast<float>(all.unbiased()), running.momentum);
  }
}

void pack_gradients(Cpu&, int64_t rows, View<const float> sum_g, View<const float> sum_g_x_hat, View<double> sums) {
  const int64_t C = check_sync_norm("pack_gradients", sums, sum_g, sum_g_x_hat);
  sums[0] = static_cast<double>(rows);
  for (int64_t c = 0; c < C; ++c) {
    sums[1 + c] = static_cast<double>(sum_g[c]);
    sums[1 + C + c] = static_cast<double>(sum_g_x_hat[c]);
  }
}

void unpack_gradients(Cpu&, View<const double> sums, View<const float> weight, const GradientAverages& to) {
  constexpr auto op = "unpack_gradients";
  const int64_t C = check_sync_norm(op, sums, to.g, to.g_x_hat);
  require_shape(op, "weight", weight, {C});
  for (int64_t c = 0; c < C; ++c) {
    const double scale = static_cast<double>(weight[c]) / sums[0];
    to.g[c] = static_cast<float>(scale * sums[1 + c]);
    to.g_x_hat[c] = static_cast<float>(scale * sums[1 + C + c]);
  }
}

}  // namespace gradlibra::kernels
