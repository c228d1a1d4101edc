// SPDX-License-Identifier: MIT
// Batch norm over the rows of several ranks: what a rank tells of its own rows, as doubles to be summed over ranks, and
// what the sums say of all of them. Between the two stands a reduction over ranks; the passes over the map before and
// behind are those of kernels/norms/batch_norm.h.
//
// The plain definition, per channel, with rank k's m_k elements x and their mean and var = sum (x - mean)^2 / m_k:
//   m = sum_k m_k      mean = sum_k m_k mean_k / m      M2 = sum_k m_k (var_k + mean_k^2) - m mean^2
//   rstd = 1 / sqrt(M2 / m + eps)
//   and back:  a = weight * sum_k sum g / m,   b = weight * sum_k sum g * x_hat / m,
//              grad_x (+)= rstd * (weight * g - a - x_hat * b)
// In doubles, whose 53 bits hold the square of a float, nothing is lost here; but the ranks' means come as floats.
// Where they lie a deviation apart, a variance is off by about 1e-7 times the mean in deviations.
//
// All views have C elements but for sums: (2 C + 1), rows first, then the two sums of each channel.
#pragma once

#include "kernels/executor.h"
#include "kernels/norms/norm_passes.h"

namespace gradlibra::kernels {

constexpr int64_t sync_norm_sums(int64_t channels) { return 2 * channels + 1; }

// var: with divisor rows - 1, 0 for one row (what batch_norm_statistics leaves of running ones at momentum 1).
void pack_moments(Cpu&, int64_t rows, View<const float> mean, View<const float> var, View<double> sums);
void pack_moments(Cuda&, int64_t rows, View<const float> mean, View<const float> var, View<double> sums);

// mean and rstd over all rows, and the running statistics, their variance with divisor m - 1.
struct MomentsOfAll {
  float eps;
  View<float> mean, rstd;
  RunningStatistics running{};
};
void unpack_moments(Cpu&, View<const double> sums, const MomentsOfAll&);
void unpack_moments(Cuda&, View<const double> sums, const MomentsOfAll&);

// A rank's gradients of bias and weight: sum g and sum g * x_hat, x_hat by the mean and rstd of all rows.
void pack_gradients(Cpu&, int64_t rows, View<const float> sum_g, View<const float> sum_g_x_hat, View<double> sums);
void pack_gradients(Cuda&, int64_t rows, View<const float> sum_g, View<const float> sum_g_x_hat, View<double> sums);

// a and b above.
struct GradientAverages {
  View<float> g, g_x_hat;
};
void unpack_gradients(Cpu&, View<const double> sums, View<const float> weight, const GradientAverages&);
void unpack_gradients(Cuda&, View<const double> sums, View<const float> weight, const GradientAverages&);

// What both versions check first; they return C.
inline int64_t check_sync_norm(const char* op, View<const double> sums, View<const float> first,
                               View<const float> second) {
  const int64_t C = first.size();
  require_shape(op, "sums", sums, {sync_norm_sums(C)});
  require_shape(op, "the second of a channel's values", second, {C});
  return C;
}
inline int64_t check_unpack_moments(View<const double> sums, const MomentsOfAll& to) {
  constexpr auto op = "unpack_moments";
  const int64_t C = check_sync_norm(op, sums, to.mean, to.rstd);
  if (to.running.mean.data() != nullptr || to.running.var.data() != nullptr) {
    require_shape(op, "running_mean", to.running.mean, {C});
    require_shape(op, "running_var", to.running.var, {C});
  }
  return C;
}

// One channel, the same on host and device.
struct ChannelMoments {
  double mean, m2, rows;

  GRADLIBRA_HOST_DEVICE ChannelMoments(double m, double sum, double squares)
      : mean(sum / m), m2(squares - sum * mean), rows(m) {
    if (m2 < 0) m2 = 0;  // a rounding; NaN stays
  }
  GRADLIBRA_HOST_DEVICE double variance() const { return m2 / rows; }
  GRADLIBRA_HOST_DEVICE double unbiased() const { return rows > 1 ? m2 / (rows - 1) : m2; }
};
GRADLIBRA_HOST_DEVICE inline double sum_of_squares(double rows, double mean, double var) {
  return (rows - 1) * var + rows * mean * mean;
}
GRADLIBRA_HOST_DEVICE inline float toward(float running, float batch, float momentum) {
  return (1 - momentum) * running + momentum * batch;
}

}  // namespace gradlibra::kernels
