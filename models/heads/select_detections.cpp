// SPDX-License-Identifier: MIT
#include "models/heads/select_detections.h"

#include <algorithm>

#include "kernels/boxes/nms.h"
#include "kernels/boxes/select_candidates.h"

namespace gradlibra {

namespace {

constexpr int64_t kFields = 6;  // of kernels::gather_detections

std::vector<std::vector<ScoredBox>> read_detections(std::span<const float> rows, int64_t N, int64_t per_image) {
  std::vector<std::vector<ScoredBox>> detections(static_cast<size_t>(N));
  for (int64_t row = 0; row < N * per_image; ++row) {
    const float* d = &rows[static_cast<size_t>(kFields * row)];
    const int label = static_cast<int>(d[5]);
    if (label >= 0) detections[static_cast<size_t>(row / per_image)].push_back({d[0], d[1], d[2], d[3], d[4], label});
  }
  return detections;
}

}  // namespace

std::vector<std::vector<ScoredBox>> select_detections(Context& context, const Predictions& found,
                                                      std::span<const int32_t> sizes, const TestConfig& test) {
  const Tensor& scores = found.scores;
  const int64_t N = scores.dim(0), P = scores.dim(1), C = scores.dim(2);
  require(static_cast<int64_t>(sizes.size()) == 2 * N, "select_detections",
          std::to_string(sizes.size() / 2) + " sizes for " + std::to_string(N) + " images");
  const int64_t K = kernels::candidates_per_image(found.level_rows, C, test.nms_pre);
  const int64_t kept_max = std::max<int64_t>(1, test.max_per_image > 0 ? std::min<int64_t>(test.max_per_image, K) : K);
  const Tensor device_sizes = context.upload<int32_t>(sizes, {N, 2});
  Tensor candidate_boxes = context.empty({N, K, 4}), candidate_scores = context.empty({N, K});
  Tensor labels = context.empty({N, K}, DType::i32), sources = context.empty({N, K}, DType::i32);
  Tensor counts = context.empty({N}, DType::i32), kept_counts = context.empty({N}, DType::i32);
  Tensor keep = context.empty({N, kept_max}, DType::i32), detections = context.empty({N, kept_max, kFields});
  const kernels::Candidates candidates{candidate_boxes.view(), candidate_scores.view(), labels.view<int32_t>(),
                                       sources.view<int32_t>(), counts.view<int32_t>()};
  const kernels::CandidateOptions options{static_cast<float>(test.score_threshold), test.nms_pre,
                                          test.keep_empty_boxes};
  const View<const float> factors = found.factors.empty() ? View<const float>() : found.factors.view();
  context.run([&](auto& device) {
    Tensor workspace = context.empty(
        {std::max(kernels::select_candidates_workspace(device, N, P, C, K), kernels::nms_workspace(device, N, K))},
        DType::i64);
    kernels::select_candidates(device, scores.view(), factors, found.boxes.view(), found.level_rows,
                               device_sizes.view<int32_t>(), options, candidates, workspace.view<int64_t>());
    kernels::multiclass_nms(device, {candidates.boxes, candidates.scores, candidates.labels, candidates.counts},
                            static_cast<float>(test.nms_iou), keep.view<int32_t>(), kept_counts.view<int32_t>(),
                            workspace.view<int64_t>());
    kernels::gather_detections(device, candidates.boxes, candidates.scores, candidates.labels, keep.view<int32_t>(),
                               detections.view());
  });
  return read_detections(context.download<float>(detections), N, kept_max);
}

}  // namespace gradlibra
