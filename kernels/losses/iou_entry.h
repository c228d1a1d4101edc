// SPDX-License-Identifier: MIT
// The loss of one pair of boxes by their overlap, and its gradient: one formula for host and device.
#pragma once

#include <cmath>

#include "kernels/host_device.h"
#include "kernels/losses/iou_loss.h"

namespace gradlibra::kernels {

// Loss of a pair and its derivative by the four numbers of the prediction.
struct IouEntry {
  double loss, grad[4];
};

// Of a side that a minimum or maximum chooses: 1 if it is the prediction's, 0 if the target's, halved at a tie. So the
// gradient of a perfect prediction is exactly 0.
GRADLIBRA_HOST_DEVICE inline double share(double chosen, double other) {
  return chosen > other ? 1.0 : chosen == other ? 0.5 : 0.0;
}

// In double: float coordinates of some hundred pixels leave the areas of small boxes few digits.
// P prediction, T target, as corners; per axis (lo, hi) the formulas are the same.
GRADLIBRA_HOST_DEVICE inline IouEntry iou_entry(const double* P, const double* T, IouMode mode, double eps) {
  double inner[2], outer[2], side[2];  // of intersection, enclosing box, prediction; x then y
  for (int a = 0; a < 2; ++a) {
    inner[a] = (P[a + 2] < T[a + 2] ? P[a + 2] : T[a + 2]) - (P[a] > T[a] ? P[a] : T[a]);
    outer[a] = (P[a + 2] > T[a + 2] ? P[a + 2] : T[a + 2]) - (P[a] < T[a] ? P[a] : T[a]);
    side[a] = P[a + 2] - P[a];
  }
  // A ternary keeps a NaN, fmax would not. A side of exactly 0 lets gradients through: a box that has collapsed grows.
  const double w = inner[0] < 0 ? 0 : inner[0], h = inner[1] < 0 ? 0 : inner[1];
  const double I = w * h, area = side[0] * side[1], united = area + (T[2] - T[0]) * (T[3] - T[1]) - I;
  const double enclosed = (outer[0] < 0 ? 0 : outer[0]) * (outer[1] < 0 ? 0 : outer[1]);
  const double U = united < eps ? eps : united, E = enclosed < eps ? eps : enclosed, iou = I / U;

  IouEntry entry{};
  double by_iou = -1;
  if (mode == IouMode::log) {
    entry.loss = -std::log(iou < eps ? eps : iou);
    by_iou = iou < eps ? 0 : -1 / iou;
  } else if (mode == IouMode::linear) {
    entry.loss = 1 - iou;
  } else if (mode == IouMode::square) {
    entry.loss = 1 - iou * iou;
    by_iou = -2 * iou;
  } else {
    entry.loss = 1 - (iou - (E - U) / E);
  }
  for (int c = 0; c < 4; ++c) {
    const int a = c % 2;
    const bool low = c < 2;
    const double outward = low ? -1 : 1;  // the side's direction away from the box
    const double across_inner = a == 0 ? h : w, across_outer = outer[1 - a] < 0 ? 0 : outer[1 - a];
    const double in = low ? share(P[c], T[c]) : share(T[c], P[c]), out = low ? share(T[c], P[c]) : share(P[c], T[c]);
    const double d_area = outward * side[1 - a];
    const double d_inner = inner[a] < 0 ? 0 : outward * in * across_inner;
    const double d_united = united < eps ? 0 : d_area - d_inner;
    const double d_iou = (d_inner * U - I * d_united) / (U * U);
    entry.grad[c] = by_iou * d_iou;
    if (mode == IouMode::giou) {
      const double d_outer = enclosed < eps || outer[a] < 0 ? 0 : outward * out * across_outer;
      entry.grad[c] -= (d_united * E - U * d_outer) / (E * E);
    }
  }
  return entry;
}

// The same for a row of four floats in either form.
GRADLIBRA_HOST_DEVICE inline IouEntry iou_entry(const float* pred, const float* target, const IouLoss& options) {
  // Distances are corners around the shared point, left and top negative.
  const bool distances = options.form == BoxForm::distances;
  double P[4], T[4];
  for (int c = 0; c < 4; ++c) {
    const double sign = distances && c < 2 ? -1 : 1;
    P[c] = sign * static_cast<double>(pred[c]);
    T[c] = sign * static_cast<double>(target[c]);
  }
  IouEntry entry = iou_entry(P, T, options.mode, static_cast<double>(options.eps));
  if (distances) {
    entry.grad[0] = -entry.grad[0];
    entry.grad[1] = -entry.grad[1];
  }
  return entry;
}

}  // namespace gradlibra::kernels
