// SPDX-License-Identifier: MIT
// Greedy non-maximum suppression on the device. First a thread per candidate counts how many come before it, which is its place
// in the order of scores, and moves it there: K^2 comparisons, but all in parallel and from shared memory. Then one block per
// image goes down the list: what is next and not yet suppressed is kept, and the block's threads test everything behind it. Only
// boxes that are kept cost a round, at most max_kept of them, so no K x K bit matrix is needed; one bit per candidate is.
#include "kernels/box_iou.h"
#include "kernels/launch.h"
#include "kernels/nms.h"

namespace gradlibra::kernels {

namespace {

constexpr int kRankBlock = 256;
constexpr int kSelectBlock = 512;
constexpr int64_t kMaxShared = 48 * 1024;  // bytes of shared memory that any device grants

// The candidates of all images, and their copy in order of score: one array per field, so that neighbours read neighbours.
struct Candidates {
  const float* boxes;
  const float* scores;
  const int32_t* labels;
  const int32_t* counts;
  int32_t* workspace;  // per image: index, label, x1, y1, x2, y2 (K each), and the number of candidates without NaN
  int64_t K;
  __device__ int count(int64_t n) const {
    const int32_t c = counts[n];
    return c < 0 ? 0 : c < K ? c : static_cast<int>(K);
  }
  __device__ int32_t* image(int64_t n) const { return workspace + n * (6 * K + 1); }
};

// The score of a candidate, NaN if any of its five numbers is.
__device__ float score_or_nan(const Candidates& c, int64_t i) {
  const float* b = c.boxes + 4 * i;
  for (int k = 0; k < 4; ++k)
    if (!(b[k] == b[k])) return b[k];
  return c.scores[i];
}

// blocks_per_image blocks of kRankBlock threads for each image, one thread per candidate.
__global__ void rank_kernel(const Candidates c, int blocks_per_image) {
  __shared__ float tile[kRankBlock];
  const int64_t n = blockIdx.x / blocks_per_image;
  const int t = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x) % blocks_per_image * kRankBlock + t;
  const int count = c.count(n);
  const float score = i < count ? score_or_nan(c, n * c.K + i) : 0;
  int rank = 0, valid = 0;
  for (int first = 0; first < count; first += kRankBlock) {
    const int size = count - first < kRankBlock ? count - first : kRankBlock;
    if (t < size) tile[t] = score_or_nan(c, n * c.K + first + t);
    __syncthreads();
    for (int j = 0; j < size; ++j) {
      const float other = tile[j];  // NaN precedes nothing
      rank += other > score || (other == score && first + j < i);
      valid += other == other;
    }
    __syncthreads();
  }
  int32_t* sorted = c.image(n);
  if (i == 0) sorted[6 * c.K] = valid;
  if (i >= count || !(score == score)) return;
  sorted[rank] = i;
  sorted[c.K + rank] = c.labels[n * c.K + i];
  for (int k = 0; k < 4; ++k) sorted[(2 + k) * c.K + rank] = __float_as_int(c.boxes[4 * (n * c.K + i) + k]);
}

struct RankedBox {
  int32_t label;
  float box[4];
};
__device__ RankedBox load_ranked(const int32_t* sorted, int64_t K, int i) {
  RankedBox r;
  r.label = sorted[K + i];
  for (int k = 0; k < 4; ++k) r.box[k] = __int_as_float(sorted[(2 + k) * K + i]);
  return r;
}

// One block per image. Bit i of the shared words: candidate i is suppressed. A warp owns a word while it updates it.
__global__ void select_kernel(const Candidates c, float iou_threshold, int max_kept, int32_t* __restrict__ keep,
                              int32_t* __restrict__ kept_counts) {
  unsigned* const suppressed = dynamic_shared<unsigned>();
  const int64_t n = blockIdx.x;
  const int t = static_cast<int>(threadIdx.x), lane = t % 32;
  const int32_t* sorted = c.image(n);
  const int count = sorted[6 * c.K], words = (count + 31) / 32;
  for (int w = t; w < words; w += kSelectBlock) suppressed[w] = 0;
  __syncthreads();

  int kept = 0, next = 0;  // the same in every thread
  while (kept < max_kept) {
    // The first candidate at or behind `next` that is not suppressed.
    int w = next / 32;
    unsigned free = w < words ? ~suppressed[w] & (0xffffffffu << (next % 32)) : 0;
    while (free == 0 && ++w < words) free = ~suppressed[w];
    if (w >= words) break;
    const int current = w * 32 + __ffs(static_cast<int>(free)) - 1;
    if (current >= count) break;
    __syncthreads();  // all have read the words before any is updated

    const RankedBox best = load_ranked(sorted, c.K, current);
    if (t == 0) keep[n * max_kept + kept] = sorted[current];
    for (w = current / 32 + t / 32; w < words; w += kSelectBlock / 32) {
      const int j = w * 32 + lane;
      bool hit = false;
      if (j > current && j < count && !(suppressed[w] >> lane & 1u)) {
        const RankedBox other = load_ranked(sorted, c.K, j);
        hit = other.label == best.label && boxes_overlap_above(best.box, other.box, iou_threshold);
      }
      const unsigned hits = __ballot_sync(0xffffffffu, hit);
      if (lane == 0) suppressed[w] |= hits;
    }
    __syncthreads();
    ++kept;
    next = current + 1;
  }
  for (int k = kept + t; k < max_kept; k += kSelectBlock) keep[n * max_kept + k] = -1;
  if (t == 0) kept_counts[n] = kept;
}

}  // namespace

void multiclass_nms(Cuda& cuda, View<const float> boxes, View<const float> scores, View<const int32_t> labels,
                    View<const int32_t> counts, float iou_threshold, View<int32_t> keep, View<int32_t> kept_counts,
                    View<int32_t> workspace) {
  require(scores.rank() == 2 && keep.rank() == 2, "multiclass_nms", "scores must be (N, K) and keep (N, max_kept)");
  const int64_t N = scores.dim(0), K = scores.dim(1), max_kept = keep.dim(1);
  require_shape("multiclass_nms", "boxes", boxes, {N, K, 4});
  require_shape("multiclass_nms", "labels", labels, {N, K});
  require_shape("multiclass_nms", "counts", counts, {N});
  require_shape("multiclass_nms", "keep", keep, {N, max_kept});
  require_shape("multiclass_nms", "kept_counts", kept_counts, {N});
  require(iou_threshold >= 0, "multiclass_nms",
          "iou_threshold must not be negative, is " + std::to_string(iou_threshold));
  require(workspace.size() >= nms_workspace(N, K), "multiclass_nms", "workspace is too small");
  const int64_t mask_bytes = (K + 31) / 32 * 4;
  require(mask_bytes <= kMaxShared, "multiclass_nms", "too many candidates per image: " + std::to_string(K));
  if (N == 0) return;

  const Candidates candidates = {boxes.data(), scores.data(), labels.data(), counts.data(), workspace.data(), K};
  // At least one block per image even when K is 0: its first thread writes the number of candidates.
  const unsigned blocks_per_image = K > 0 ? blocks_for(K, kRankBlock) : 1;
  launch(rank_kernel, static_cast<unsigned>(N) * blocks_per_image, kRankBlock, 0, cuda.stream(), candidates,
         static_cast<int>(blocks_per_image));
  launch(select_kernel, static_cast<unsigned>(N), kSelectBlock, static_cast<size_t>(mask_bytes), cuda.stream(),
         candidates, iou_threshold, static_cast<int>(max_kept), keep.data(), kept_counts.data());
}

}  // namespace gradlibra::kernels
