// SPDX-License-Identifier: MIT
#include "models/heads/select_detections.h"

#include <algorithm>

#include "kernels/nms.h"

namespace gradlibra {

namespace {

struct Entry {
  float score;
  int64_t index;  // cell * C + class, cells counted over all levels
};

// Step 1 for one image.
std::vector<Entry> best_of_levels(const float* scores, std::span<const int64_t> level_rows, int64_t classes,
                                  const TestConfig& test) {
  const auto threshold = static_cast<float>(test.score_threshold);
  const auto better = [](const Entry& a, const Entry& b) {
    return a.score != b.score ? a.score > b.score : a.index < b.index;
  };
  std::vector<Entry> chosen, level;
  int64_t first = 0;
  for (const int64_t rows : level_rows) {
    level.clear();
    for (int64_t i = first * classes; i < (first + rows) * classes; ++i)
      if (scores[i] > threshold) level.push_back({scores[i], i});
    if (test.nms_pre > 0 && level.size() > static_cast<size_t>(test.nms_pre)) {
      std::partial_sort(level.begin(), level.begin() + test.nms_pre, level.end(), better);
      level.resize(static_cast<size_t>(test.nms_pre));
    } else {
      std::sort(level.begin(), level.end(), better);
    }
    chosen.insert(chosen.end(), level.begin(), level.end());
    first += rows;
  }
  return chosen;
}

}  // namespace

std::vector<std::vector<ScoredBox>> select_detections(Context& context, const Tensor& scores, const Tensor& boxes,
                                                      std::span<const int64_t> level_rows,
                                                      std::span<const int32_t> sizes, const TestConfig& test) {
  const int64_t N = scores.dim(0), P = scores.dim(1), C = scores.dim(2);
  require(static_cast<int64_t>(sizes.size()) == 2 * N, "select_detections", "one size per image");
  const std::vector<float> all_scores = context.download<float>(scores), all_boxes = context.download<float>(boxes);

  std::vector<std::vector<ScoredBox>> candidates(static_cast<size_t>(N));
  size_t most = 0;
  for (int64_t n = 0; n < N; ++n) {
    const auto height = static_cast<float>(sizes[static_cast<size_t>(2 * n)]);
    const auto width = static_cast<float>(sizes[static_cast<size_t>(2 * n + 1)]);
    auto& image = candidates[static_cast<size_t>(n)];
    for (const Entry& e : best_of_levels(all_scores.data() + n * P * C, level_rows, C, test)) {
      const float* b = all_boxes.data() + (n * P + e.index / C) * 4;
      const ScoredBox box{std::clamp(b[0], 0.0f, width),
                          std::clamp(b[1], 0.0f, height),
                          std::clamp(b[2], 0.0f, width),
                          std::clamp(b[3], 0.0f, height),
                          e.score,
                          static_cast<int>(e.index % C)};
      if (test.keep_empty_boxes || (box.x2 > box.x1 && box.y2 > box.y1)) image.push_back(box);
    }
    most = std::max(most, image.size());
  }

  // Suppression runs on the device over the batch, padded to the fullest image.
  const auto K = static_cast<int64_t>(most);
  std::vector<float> nms_boxes(static_cast<size_t>(N * K * 4)), nms_scores(static_cast<size_t>(N * K));
  std::vector<int32_t> nms_labels(static_cast<size_t>(N * K)), nms_counts(static_cast<size_t>(N));
  for (int64_t n = 0; n < N; ++n) {
    const auto& image = candidates[static_cast<size_t>(n)];
    nms_counts[static_cast<size_t>(n)] = static_cast<int32_t>(image.size());
    for (size_t k = 0; k < image.size(); ++k) {
      const size_t row = static_cast<size_t>(n * K) + k;
      const ScoredBox& b = image[k];
      const float corners[4] = {b.x1, b.y1, b.x2, b.y2};
      std::copy(corners, corners + 4, nms_boxes.begin() + static_cast<int64_t>(row) * 4);
      nms_scores[row] = b.score;
      nms_labels[row] = b.label;
    }
  }
  const int64_t kept_max = test.max_per_image;
  Tensor keep = context.empty({N, kept_max}, DType::i32), kept_counts = context.empty({N}, DType::i32);
  Tensor workspace = context.empty({kernels::nms_workspace(N, K)}, DType::i32);
  const Tensor device_boxes = context.upload<float>(nms_boxes, {N, K, 4}),
               device_scores = context.upload<float>(nms_scores, {N, K});
  const Tensor device_labels = context.upload<int32_t>(nms_labels, {N, K}),
               device_counts = context.upload<int32_t>(nms_counts, {N});
  context.run([&](auto& device) {
    kernels::multiclass_nms(device, device_boxes.view(), device_scores.view(), device_labels.view<int32_t>(),
                            device_counts.view<int32_t>(), static_cast<float>(test.nms_iou), keep.view<int32_t>(),
                            kept_counts.view<int32_t>(), workspace.view<int32_t>());
  });
  const std::vector<int32_t> kept = context.download<int32_t>(keep), counts = context.download<int32_t>(kept_counts);

  std::vector<std::vector<ScoredBox>> detections(static_cast<size_t>(N));
  for (int64_t n = 0; n < N; ++n)
    for (int64_t i = 0; i < counts[static_cast<size_t>(n)]; ++i)
      detections[static_cast<size_t>(n)].push_back(
          candidates[static_cast<size_t>(n)][static_cast<size_t>(kept[static_cast<size_t>(n * kept_max + i)])]);
  return detections;
}

}  // namespace gradlibra
