// SPDX-License-Identifier: MIT
// Candidates on the device: sorted levels, then one block per image that moves up what is left, a block's width at a
// time.
#include "kernels/boxes/select_candidates.h"

#include "kernels/boxes/clip_box.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

constexpr int kFillBlock = 1024;

struct Filling {
  const float* scores;
  const float* factors;  // or null
  const float* boxes;
  const int32_t* sizes;
  const int32_t* order;  // (N, K): entries of all levels, -1 between them
  int64_t P, C, K;
  bool keep_empty_boxes;
  float* out_boxes;
  float* out_scores;
  int32_t* labels;
  int32_t* sources;
  int32_t* counts;
};

__device__ void write(const Filling& f, int64_t k, const ClippedBox& box, float score, int32_t label, int32_t source) {
  f.out_boxes[4 * k] = box.x1;
  f.out_boxes[4 * k + 1] = box.y1;
  f.out_boxes[4 * k + 2] = box.x2;
  f.out_boxes[4 * k + 3] = box.y2;
  f.out_scores[k] = score;
  f.labels[k] = label;
  f.sources[k] = source;
}

// A thread's place among those that stay: the stayers in earlier rounds, in the warps before its own, in the lanes
// before it.
__global__ void fill_kernel(const Filling f) {
  __shared__ int of_warp[kFillBlock / 32];
  const int64_t n = blockIdx.x;
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32;
  int64_t end = n * f.K;
  for (int64_t first = 0; first < f.K; first += kFillBlock) {
    const int32_t source = first + t < f.K ? f.order[n * f.K + first + t] : -1;
    ClippedBox box = {0, 0, 0, 0};
    if (source >= 0) box = clip_box(f.boxes + 4 * (n * f.P + source / f.C), f.sizes + 2 * n);
    const bool stays = source >= 0 && (f.keep_empty_boxes || box.has_area());
    const unsigned votes = __ballot_sync(0xffffffffu, stays);
    if (lane == 0) of_warp[warp] = __popc(votes);
    __syncthreads();
    int64_t place = end + __popc(votes & ((1u << lane) - 1));
    for (int w = 0; w < kFillBlock / 32; ++w) {
      if (w < warp) place += of_warp[w];
      end += of_warp[w];
    }
    if (stays) {
      const float factor = f.factors == nullptr ? 1 : f.factors[n * f.P + source / f.C];
      write(f, place, box, f.scores[n * f.P * f.C + source] * factor, static_cast<int32_t>(source % f.C), source);
    }
    __syncthreads();  // of_warp may be written by the next round
  }
  if (t == 0) f.counts[n] = static_cast<int32_t>(end - n * f.K);
  for (int64_t k = end + t; k < (n + 1) * f.K; k += kFillBlock) write(f, k, {0, 0, 0, 0}, 0, -1, -1);
}

// One thread per number.
__global__ void gather_detections_kernel(const float* __restrict__ boxes, const float* __restrict__ scores,
                                         const int32_t* __restrict__ labels, const int32_t* __restrict__ keep,
                                         int64_t size, int64_t K, int64_t D, float* __restrict__ detections) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (i >= size) return;
  const int64_t row = i / 6, k = row / D * K + keep[row];
  const int c = static_cast<int>(i % 6);
  if (keep[row] < 0)
    detections[i] = c < 5 ? 0 : -1;
  else
    detections[i] = c < 4 ? boxes[4 * k + c] : c == 4 ? scores[k] : static_cast<float>(labels[k]);
}

}  // namespace

int64_t select_candidates_workspace(const Cuda& cuda, int64_t N, int64_t P, int64_t C, int64_t K) {
  return sort_scores_workspace(cuda, N, P * C) + (N * K + 1) / 2;
}

void select_candidates(Cuda& cuda, View<const float> scores, View<const float> factors, View<const float> boxes,
                       std::span<const int64_t> level_rows, View<const int32_t> sizes, const CandidateOptions& options,
                       const Candidates& candidates, View<int64_t> workspace) {
  const int64_t N = scores.dim(0), P = scores.dim(1), C = scores.dim(2), K = candidates.scores.dim(1);
  const LevelSort sort = check_select_candidates(scores, factors, boxes, level_rows, sizes, options, candidates,
                                                 workspace, select_candidates_workspace(cuda, N, P, C, K));
  if (N == 0) return;
  sort_scores(cuda, sort.entries, sort.segments(), sort.limit, sort.lowest, sort.order, sort.workspace);
  const Filling filling = {scores.data(),
                           factors.data(),
                           boxes.data(),
                           sizes.data(),
                           sort.order.data(),
                           P,
                           C,
                           K,
                           options.keep_empty_boxes,
                           candidates.boxes.data(),
                           candidates.scores.data(),
                           candidates.labels.data(),
                           candidates.sources.data(),
                           candidates.counts.data()};
  launch(fill_kernel, static_cast<unsigned>(N), kFillBlock, 0, cuda.stream(), filling);
}

void gather_detections(Cuda& cuda, View<const float> boxes, View<const float> scores, View<const int32_t> labels,
                       View<const int32_t> keep, View<float> detections) {
  check_gather_detections(boxes, scores, labels, keep, detections);
  if (detections.size() == 0) return;
  launch(gather_detections_kernel, blocks_for(detections.size(), kBlock), kBlock, 0, cuda.stream(), boxes.data(),
         scores.data(), labels.data(), keep.data(), detections.size(), scores.dim(1), keep.dim(1), detections.data());
}

}  // namespace gradlibra::kernels
