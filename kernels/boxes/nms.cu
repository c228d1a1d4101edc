// SPDX-License-Identifier: MIT
// Greedy non-maximum suppression on the device, over the sorted candidates in words of 64. First the overlaps of all
// pairs, one bit each, in tiles of 64 x 64. Then one block per image walks the words: a warp decides the 64 candidates
// of a word, all at once but for chains of overlaps, while the other warps strike out what the word before suppresses
// further back. To decide a word, the overlaps with itself and with the word before must be at hand, by the later
// candidate (`near`); all others are kept by the earlier one (`far`), whose row is struck out as a whole. `far` has K^2
// bits: beyond kFarWords, the rows take turns in passes.
#include "kernels/boxes/nms.h"

#include <limits>

#include "kernels/boxes/box_iou.h"
#include "kernels/boxes/sort_scores.h"
#include "kernels/launch.h"

namespace gradlibra::kernels {

namespace {

using Word = unsigned long long;  // what __popcll takes

constexpr int kWord = 64;
constexpr int64_t kFarWords = int64_t{1} << 21;  // 16 MiB per image
constexpr int kPrepareBlock = 1024;
constexpr int kTiles = 4;  // of a block, 64 threads each
constexpr int kOverlapBlock = kTiles * kWord;
constexpr int kStrikeWarps = 16;
constexpr int kRowsPerWarp = kWord / kStrikeWarps;
constexpr int kLoads = 4;  // words of a row that a lane has under way
constexpr int kWalkBlock = 32 * (1 + kStrikeWarps);

// What suppresses a candidate: in the word before its own, and before it in its own.
struct Near {
  Word previous, own;
};

struct Nms {
  const float* boxes;
  const int32_t* labels;
  int64_t K;
  float iou_threshold;
  int64_t words;  // that K bits fill
  int64_t rows;   // candidates of a pass, whole words
  // Parts of the workspace. Candidates are counted in the order of scores.
  Near* near;        // (N, K)
  Word* far;         // (N, rows, words): row i of word w has bits from word w + 2 on, the rest is not written
  Word* last_kept;   // (N): of the last word of the pass before
  unsigned* struck;  // (N, 2 * words): what earlier passes suppressed, halves of words
  float* scores;     // (N, K): NaN for what is never kept
  int32_t* order;    // (N, K): candidate to index, -1 from valid[n] on
  int32_t* valid;    // (N)
  [[nodiscard]] __device__ int64_t words_of_image(int64_t n) const { return (valid[n] + kWord - 1) / kWord; }
};

// One block per image: which candidates may be kept, and how many they are.
__global__ void prepare_kernel(const Nms nms, const float* __restrict__ scores, const int32_t* __restrict__ counts) {
  const int64_t n = blockIdx.x, count = min(int64_t{counts[n]}, nms.K);
  int valid = 0;
  for (int64_t first = 0; first < nms.K; first += kPrepareBlock) {
    const int64_t i = first + threadIdx.x;
    float score = NAN;
    if (i < count) {
      const float* b = nms.boxes + 4 * (n * nms.K + i);
      if (b[0] == b[0] && b[1] == b[1] && b[2] == b[2] && b[3] == b[3]) score = scores[n * nms.K + i];
    }
    if (i < nms.K) nms.scores[n * nms.K + i] = score;
    valid += __syncthreads_count(score == score);
  }
  if (threadIdx.x == 0) nms.valid[n] = valid;
}

// The overlaps of 64 candidates with 64, a thread for each of the former, four such tiles per block: rows of one word,
// columns of four neighbouring words. blockIdx.x counts the groups of four, image after image, blockIdx.y the words of
// the pass.
__global__ void overlaps_kernel(const Nms nms, int groups, int64_t first_row, int64_t max_kept,
                                const int32_t* __restrict__ kept_counts) {
  __shared__ float4 boxes[kTiles][kWord];
  __shared__ int32_t labels[kTiles][kWord];
  const int64_t n = blockIdx.x / groups, valid = nms.valid[n], words = nms.words_of_image(n);
  const int tile = static_cast<int>(threadIdx.x) / kWord, i = static_cast<int>(threadIdx.x) % kWord;
  const int64_t row = first_row / kWord + blockIdx.y, column = int64_t{blockIdx.x % groups} * kTiles + tile;
  if (row >= words || column - tile >= words || column - tile + kTiles <= row) return;  // the whole block
  if (first_row > 0 && kept_counts[n] >= max_kept) return;                              // full after an earlier pass
  const bool used = column >= row && column < words, near = column <= row + 1;
  const int64_t own = near ? column : row, other = near ? row : column;
  const int others = static_cast<int>(min(valid - other * kWord, int64_t{kWord}));
  if (used && i < others) {
    const int64_t j = n * nms.K + nms.order[n * nms.K + other * kWord + i];
    boxes[tile][i] = make_float4(nms.boxes[4 * j], nms.boxes[4 * j + 1], nms.boxes[4 * j + 2], nms.boxes[4 * j + 3]);
    labels[tile][i] = nms.labels[j];
  }
  __syncthreads();
  const int64_t candidate = own * kWord + i;
  if (!used || candidate >= valid) return;
  const int64_t index = n * nms.K + nms.order[n * nms.K + candidate];
  const float box[4] = {nms.boxes[4 * index], nms.boxes[4 * index + 1], nms.boxes[4 * index + 2],
                        nms.boxes[4 * index + 3]};
  const int32_t label = nms.labels[index];
  Word overlaps = 0;
  for (int j = 0; j < others; ++j) {
    if (labels[tile][j] != label) continue;
    const float4 b = boxes[tile][j];
    const float other_box[4] = {b.x, b.y, b.z, b.w};
    if (boxes_overlap_above(box, other_box, nms.iou_threshold)) overlaps |= Word{1} << j;
  }
  if (column == row)
    nms.near[n * nms.K + candidate].own = overlaps & ((Word{1} << i) - 1);
  else if (near)
    nms.near[n * nms.K + candidate].previous = overlaps;
  else
    nms.far[(n * nms.rows + candidate - first_row) * nms.words + column] = overlaps;
}

// 64 votes of a warp, two by each lane: for the bits `lane` and `lane + 32`.
__device__ Word ballot(bool low, bool high) {
  const Word low_votes = __ballot_sync(0xffffffffu, low), high_votes = __ballot_sync(0xffffffffu, high);
  return low_votes | high_votes << 32;
}

// Which candidates of a word are kept, on all lanes of a warp. alive: those that no word but the previous suppresses;
// low, high: Near of the bits `lane` and `lane + 32`. Each round decides at least the first that is open, mostly all.
__device__ Word resolve(Word alive, Word previous_kept, const Near& low, const Near& high) {
  Word open = alive & ballot((low.previous & previous_kept) == 0, (high.previous & previous_kept) == 0), kept = 0;
  while (open != 0) {
    kept |= open & ballot((low.own & open) == 0, (high.own & open) == 0);
    open &= ~kept & ballot((low.own & kept) == 0, (high.own & kept) == 0);
  }
  return kept;
}

// Strikes out what the kept candidates of word w suppress in words w + 2, w + 3, ... < words. Each of kStrikeWarps
// warps has its rows of the word, and loads several words of them before it uses one.
__device__ void strike(const Word* far_of_word, int64_t row_words, Word kept, int64_t w, int64_t words, int warp,
                       int lane, unsigned* struck) {
  const Word* rows = far_of_word + kRowsPerWarp * warp * row_words;
  const auto kept_rows = static_cast<unsigned>(kept >> (kRowsPerWarp * warp)) & ((1u << kRowsPerWarp) - 1);
  if (kept_rows == 0) return;
  for (int64_t first = w + 2 + lane; first < words; first += 32 * kLoads) {
    Word bits[kLoads] = {};
#pragma unroll
    for (int k = 0; k < kLoads; ++k)
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; ++r)
        if ((kept_rows >> r & 1u) != 0 && first + 32 * k < words) bits[k] |= rows[r * row_words + first + 32 * k];
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      const auto low = static_cast<unsigned>(bits[k]), high = static_cast<unsigned>(bits[k] >> 32);
      if (low != 0) atomicOr(&struck[2 * (first + 32 * k)], low);
      if (high != 0) atomicOr(&struck[2 * (first + 32 * k) + 1], high);
    }
  }
}

// What the walk needs of a candidate, loaded one word ahead.
struct Candidate {
  Near near;
  int32_t index;
};
__device__ Candidate load_candidate(const Nms& nms, int64_t n, int64_t i, int64_t valid) {
  if (i >= valid) return {{0, 0}, -1};
  return {nms.near[n * nms.K + i], nms.order[n * nms.K + i]};
}

// One block per image. In step w warp 0 decides word w, and the others strike out for word w - 1.
__global__ void walk_kernel(const Nms nms, int64_t first_row, int64_t max_kept, int32_t* __restrict__ keep,
                            int32_t* __restrict__ kept_counts) {
  unsigned* const struck = dynamic_shared<unsigned>();  // words of 64 bits, in halves: lower, upper
  __shared__ Word kept_words[2];
  const int64_t n = blockIdx.x, valid = nms.valid[n], words = nms.words_of_image(n);
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32;
  const int64_t begin = first_row / kWord, end = min(words, (first_row + nms.rows) / kWord);
  const bool first_pass = first_row == 0, last_pass = first_row + nms.rows >= nms.K;
  int64_t count = first_pass ? 0 : kept_counts[n];  // the same in every thread, and so is `kept`
  Word kept = first_pass ? 0 : nms.last_kept[n];
  unsigned* const struck_before = nms.struck + 2 * n * nms.words;
  for (int64_t h = 2 * begin + t; h < 2 * words; h += kWalkBlock) struck[h] = first_pass ? 0 : struck_before[h];
  __syncthreads();

  const auto strike_for = [&](int64_t w) {
    strike(nms.far + (n * nms.rows + w * kWord - first_row) * nms.words, nms.words, kept, w, words, warp - 1, lane,
           struck);
  };
  Candidate low = {{0, 0}, -1}, high = low;
  if (warp == 0) {
    low = load_candidate(nms, n, begin * kWord + lane, valid);
    high = load_candidate(nms, n, begin * kWord + lane + 32, valid);
  }
  for (int64_t w = begin; w < end && count < max_kept; ++w) {
    if (warp == 0) {
      const Candidate next_low = load_candidate(nms, n, (w + 1) * kWord + lane, valid);
      const Candidate next_high = load_candidate(nms, n, (w + 1) * kWord + lane + 32, valid);
      const Word gone = Word{struck[2 * w + 1]} << 32 | struck[2 * w];
      const Word real = ballot(low.index >= 0, high.index >= 0);
      const Word found = resolve(real & ~gone, kept, low.near, high.near);
      const auto write_if_kept = [&](int bit, int32_t index) {
        const int64_t place = count + __popcll(found & ((Word{1} << bit) - 1));
        if ((found >> bit & 1u) != 0 && place < max_kept) keep[n * max_kept + place] = index;
      };
      write_if_kept(lane, low.index);
      write_if_kept(lane + 32, high.index);
      if (lane == 0) kept_words[w % 2] = found;
      low = next_low;
      high = next_high;
    } else if (w > begin) {
      strike_for(w - 1);
    }
    __syncthreads();
    kept = kept_words[w % 2];  // written again two barriers from here
    count += __popcll(kept);
  }

  if (last_pass) {
    for (int64_t k = count + t; k < max_kept; k += kWalkBlock) keep[n * max_kept + k] = -1;
  } else if (count < max_kept && end < words) {
    // The next pass has no access to this one's rows.
    if (warp > 0) strike_for(end - 1);
    __syncthreads();
    for (int64_t h = 2 * end + t; h < 2 * words; h += kWalkBlock) struck_before[h] = struck[h];
    if (t == 0) nms.last_kept[n] = kept;
  }
  if (t == 0) kept_counts[n] = static_cast<int32_t>(min(count, max_kept));
}

int64_t words_for(int64_t K) { return (K + kWord - 1) / kWord; }
int64_t rows_of_pass(int64_t K) {
  const int64_t words = words_for(K), most = words > 0 ? kFarWords / words / kWord : 0;
  return kWord * (most < 1 ? 1 : most < words ? most : words);
}

}  // namespace

int64_t nms_workspace(const Cuda& cuda, int64_t N, int64_t K) {
  const int64_t words = words_for(K), near = 2 * N * K, far = N * rows_of_pass(K) * words, struck = N * words;
  return near + far + struck + N + (2 * N * K + N + 1) / 2 + sort_scores_workspace(cuda, N, K);
}

void multiclass_nms(Cuda& cuda, const NmsCandidates& candidates, float iou_threshold, View<int32_t> keep,
                    View<int32_t> kept_counts, View<int64_t> workspace) {
  const int64_t N = candidates.scores.dim(0), K = candidates.scores.dim(1), max_kept = keep.dim(1);
  check_multiclass_nms(candidates, iou_threshold, keep, kept_counts, workspace, nms_workspace(cuda, N, K));
  require(K <= kMaxNmsCandidates, "multiclass_nms",
          std::to_string(K) + " candidates per image, at most " + std::to_string(kMaxNmsCandidates) + " are possible");
  if (N == 0) return;

  Nms nms;
  nms.boxes = candidates.boxes.data();
  nms.labels = candidates.labels.data();
  nms.K = K;
  nms.iou_threshold = iou_threshold;
  nms.words = words_for(K);
  nms.rows = rows_of_pass(K);
  nms.near = reinterpret_cast<Near*>(workspace.data());
  nms.far = reinterpret_cast<Word*>(nms.near + N * K);
  nms.last_kept = nms.far + N * nms.rows * nms.words;
  nms.struck = reinterpret_cast<unsigned*>(nms.last_kept + N);
  nms.scores = reinterpret_cast<float*>(nms.struck + 2 * N * nms.words);
  nms.order = reinterpret_cast<int32_t*>(nms.scores + N * K);
  nms.valid = nms.order + N * K;
  const int64_t sort_space = sort_scores_workspace(cuda, N, K);
  const View<int64_t> sort_workspace(workspace.data() + nms_workspace(cuda, N, K) - sort_space, {sort_space});

  launch(prepare_kernel, static_cast<unsigned>(N), kPrepareBlock, 0, cuda.stream(), nms, candidates.scores.data(),
         candidates.counts.data());
  const int64_t segments[] = {K};
  sort_scores(cuda, View<const float>(nms.scores, {N, K}), segments, K, -std::numeric_limits<float>::infinity(),
              View<int32_t>(nms.order, {N, K}), sort_workspace);
  const int64_t groups = (nms.words + kTiles - 1) / kTiles;
  // At least one pass, which writes the counts of images without candidates too.
  for (int64_t first_row = 0; first_row == 0 || first_row < K; first_row += nms.rows) {
    if (K > 0)
      launch(overlaps_kernel, dim3(static_cast<unsigned>(N * groups), static_cast<unsigned>(nms.rows / kWord)),
             kOverlapBlock, 0, cuda.stream(), nms, static_cast<int>(groups), first_row, max_kept, kept_counts.data());
    launch(walk_kernel, static_cast<unsigned>(N), kWalkBlock, static_cast<size_t>(8 * nms.words), cuda.stream(), nms,
           first_row, max_kept, keep.data(), kept_counts.data());
  }
}

}  // namespace gradlibra::kernels
