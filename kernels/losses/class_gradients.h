// SPDX-License-Identifier: MIT
// How hard a step pulls at each class, upwards and downwards: the sums behind the ratio of positive to negative
// gradients (arXiv:2208.03779, fig. 3a), for any loss whose classes have a logit each.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/host_device.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// Rows that make one partial sum.
inline constexpr int kClassGradientRows = 256;

struct ClassGradients {
  // The factor that the loss was multiplied by beside 1 / normalizer.
  double loss_weight = 1;
  // false: a row takes part in a class other than its own only where its gradient is not 0. For losses in which a row
  // says nothing about some classes.
  bool every_row = true;
};

// Doubles of the sums of C classes.
GRADLIBRA_HOST_DEVICE constexpr int64_t class_gradients_size(int64_t classes) { return 6 * classes + 1; }

// Over rows with weight w != 0 and label >= 0; row i is positive for class c if labels[i] == c, else negative, and hard
// if |p - y| > 1/2, which is z on the wrong side of 0; z is logits[i, channels[c]] and p = sigmoid(z).
// sums (class_gradients_size(C)), doubles added in a fixed order:
//   sums[c]            = sum over positives of w (1 - p)         sums[C + c]       = sum over negatives of w p
//   sums[2 C + c]      = sum over positives of |g|               sums[3 C + c]     = sum over negatives of |g|
//   sums[4 C]          = number of rows
//   sums[4 C + 1 + c]  = sum over hard positives of |g|          sums[5 C + 1 + c] = sum over hard negatives of |g|
// with g = grad_logits[i, channels[c]] * normalizers[c] / loss_weight: what the loss gave, before it was normalised and
// weighted, w included. normalizers: (1) for all classes or (C). With loss_weight 0 the sums of |g| are 0.
// Rows that do not count are selected out, whatever they hold; another NaN shows in the sums of its class; a NaN
// z is not hard.
// logits, grad_logits (R, K); labels (R), C or more for background; weights (R); channels (C), each in [0, K). R may be
// 0. workspace: class_gradients_workspace(R, C) doubles.
int64_t class_gradients_workspace(int64_t rows, int64_t classes);
void class_gradients(Cpu&, View<const float> logits, View<const float> grad_logits, View<const int32_t> labels,
                     View<const float> weights, View<const int32_t> channels, View<const double> normalizers,
                     const ClassGradients& options, View<double> sums, View<double> workspace);
void class_gradients(Cuda&, View<const float> logits, View<const float> grad_logits, View<const int32_t> labels,
                     View<const float> weights, View<const int32_t> channels, View<const double> normalizers,
                     const ClassGradients& options, View<double> sums, View<double> workspace);

// One step more: totals[j] += sums[j] / sums[4 C] for j other than 4 C, totals[4 C] += 1. Without rows only the step is
// counted; if ok[0] is not finite, nothing is. sums, totals (class_gradients_size(C)); ok (1).
void add_class_gradients(Cpu&, View<const double> sums, View<const float> ok, View<double> totals);
void add_class_gradients(Cuda&, View<const double> sums, View<const float> ok, View<double> totals);

// What both versions check first.
void check_class_gradients(View<const float> logits, View<const float> grad_logits, View<const int32_t> labels,
                           View<const float> weights, View<const int32_t> channels, View<const double> normalizers,
                           View<double> sums, View<double> workspace);
void check_add_class_gradients(View<const double> sums, View<const float> ok, View<double> totals);

}  // namespace gradlibra::kernels
