// SPDX-License-Identifier: MIT
// Losses of boxes by their overlap with the target, IoU (arXiv:1608.01471) and generalised IoU (arXiv:1902.09630),
// value and gradient in one pass.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/losses/loss_sum.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

enum class IouMode {
  log,     // -ln max(IoU, eps); no gradient where it is held
  linear,  // 1 - IoU
  square,  // 1 - IoU^2
  giou     // 1 - (IoU - (E - U) / E), E the area of the smallest box around both
};

// What the four numbers of a row are.
enum class BoxForm {
  corners,   // x1, y1, x2, y2
  distances  // left, top, right, bottom from a point that prediction and target share. Overlaps are free of shifts:
             // where it lies need not be known, and large coordinates cost no digits.
};

struct IouLoss {
  IouMode mode = IouMode::log;
  BoxForm form = BoxForm::corners;
  float eps = 1e-6f;  // least area of union and enclosing box, and of log's argument
};

// With IoU = I / max(U, eps), U = |P| + |T| - I, sides of I not below 0, s = out.weight / out.normalizer[0]:
//   out.loss[0] = s * sum_i w_i l_i              double, fixed order
//   out.grad    = s * w_i * dl_i/dpred         for every row; 0, by selection, where w == 0
// At a tie between a side of prediction and target the gradient is split in halves; what is held at eps has none. A box
// that only touches its target, or has no width, still has the gradient by which it comes to overlap.
// pred, target (R, 4), weights (R). R may be 0: loss 0. NaN in a row
// with w != 0 gives NaN. (R, 4) arrays are 16-byte aligned. Entries are evaluated in double
// (kernels/losses/iou_entry.h). out.workspace: iou_loss_workspace(R) doubles, the partial sums of kIouLossRows rows
// each.
inline constexpr int kIouLossRows = 256;
int64_t iou_loss_workspace(int64_t rows);
void iou_loss(Cpu&, View<const float> pred, View<const float> target, View<const float> weights, const IouLoss& options,
              const LossSum& out);
void iou_loss(Cuda&, View<const float> pred, View<const float> target, View<const float> weights,
              const IouLoss& options, const LossSum& out);

// What both versions check first.
void check_iou_loss(View<const float> pred, View<const float> target, View<const float> weights, const IouLoss& options,
                    const LossSum& out);

}  // namespace gradlibra::kernels
