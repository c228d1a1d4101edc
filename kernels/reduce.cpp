// SPDX-License-Identifier: MIT
// Reductions on the host: one partial result per chunk, the chunks in parallel, then the partial results in order.
#include "kernels/reduce.h"

#include "kernels/map_type.h"
#include "kernels/parallel.h"
#include "kernels/row_chunks.h"

namespace gradlibra::kernels {

int64_t reduce_workspace(int64_t size) { return chunk_count(size, kReduceChunk); }

int64_t sum_rows_workspace(int64_t rows, int64_t channels) { return row_chunks(rows, channels) * channels; }

void check_reduce(const char* op, int64_t size, View<double> out, View<double> workspace) {
  require(out.size() == 1, op, "out has shape " + out.shape().to_string() + ", expected one element");
  require(
      size == 0 || workspace.size() >= reduce_workspace(size), op,
      "workspace has " + workspace.shape().to_string() + " doubles, needs " + std::to_string(reduce_workspace(size)));
}

void check_sum_row_squares(View<const float> x, View<double> out) {
  require(x.rank() == 2, "sum_row_squares", "x must be (R, K), is " + x.shape().to_string());
  require_shape("sum_row_squares", "out", out, {x.dim(0)});
}

void check_sum_rows(const Shape& x, View<float> out, View<float> workspace) {
  require(x.rank() >= 1, "sum_rows", "x has no channels");
  require_shape("sum_rows", "out", out, {x.dim(-1)});
  const int64_t floats = x.size() == 0 ? 0 : sum_rows_workspace(x.size() / x.dim(-1), x.dim(-1));
  require(floats == 0 || workspace.size() >= floats, "sum_rows",
          "workspace has " + workspace.shape().to_string() + " floats, needs " + std::to_string(floats));
}

void check_relu_backward_sum_rows(const Shape& y, const Shape& grad_y, const Shape& grad_x, View<float> out,
                                  View<float> workspace) {
  require(y == grad_x && grad_y == grad_x, "relu_backward_sum_rows",
          "y " + y.to_string() + ", grad_y " + grad_y.to_string() + " and grad_x " + grad_x.to_string() + " differ");
  check_sum_rows(grad_x, out, workspace);
}

namespace {

// out[0] (+)= sum of value(i), i < size.
template <class Value>
void reduce(Cpu& cpu, int64_t size, View<double> out, Accumulate mode, View<double> workspace, Value&& value) {
  parallel_chunks(cpu, size, kReduceChunk, [&](int64_t chunk, int64_t begin, int64_t end) {
    double partial = 0;
#pragma omp simd reduction(+ : partial)
    for (int64_t i = begin; i < end; ++i) partial += value(i);
    workspace[chunk] = partial;
  });
  double total = 0;
  for (int64_t chunk = 0; chunk < chunk_count(size, kReduceChunk); ++chunk) total += workspace[chunk];
  out[0] = mode == Accumulate::add ? out[0] + total : total;
}

}  // namespace

void sum_squares(Cpu& cpu, View<const float> x, View<double> out, Accumulate mode, View<double> workspace) {
  check_reduce("sum_squares", x.size(), out, workspace);
  reduce(cpu, x.size(), out, mode, workspace, [x = x.data()](int64_t i) {
    const auto v = static_cast<double>(x[i]);
    return v * v;
  });
}

void sum_row_squares(Cpu& cpu, View<const float> x, View<double> out) {
  check_sum_row_squares(x, out);
  const int64_t K = x.dim(1);
  parallel_for(cpu, x.dim(0), 4, [&](int64_t r) {
    double sum = 0;
    for (int64_t k = 0; k < K; ++k) {
      const auto v = static_cast<double>(x[r * K + k]);
      sum += v * v;
    }
    out[r] = sum;
  });
}

namespace {

// out[c] (+)= sum over rows of value(r * C + c); each is asked for once.
template <class Value>
void row_sums(Cpu& cpu, int64_t rows, int64_t C, View<float> out, Accumulate mode, View<float> workspace,
              const Value& value) {
  constexpr int64_t kTile = 256;  // channels whose sums stay in the L1 cache
  parallel_chunks(cpu, rows, rows_per_chunk(C), [&](int64_t chunk, int64_t begin, int64_t end) {
    for (int64_t first = 0; first < C; first += kTile) {
      const int64_t width = std::min(kTile, C - first);
      float partial[kTile] = {};
      for (int64_t r = begin; r < end; ++r) {
        const int64_t row = r * C + first;
#pragma omp simd
        for (int64_t c = 0; c < width; ++c) partial[c] += value(row + c);
      }
      std::copy(partial, partial + width, workspace.data() + chunk * C + first);
    }
  });
  parallel_chunks(cpu, C, kTile, [&](int64_t, int64_t begin, int64_t end) {
    double total[kTile] = {};
    for (int64_t chunk = 0; chunk < row_chunks(rows, C); ++chunk)
      for (int64_t c = begin; c < end; ++c) total[c - begin] += static_cast<double>(workspace[chunk * C + c]);
    for (int64_t c = begin; c < end; ++c)
      out[c] = static_cast<float>(total[c - begin] + (mode == Accumulate::add ? static_cast<double>(out[c]) : 0.0));
  });
}

template <MapType T>
void plain_row_sums(Cpu& cpu, View<const T> x, View<float> out, Accumulate mode, View<float> workspace) {
  check_sum_rows(x.shape(), out, workspace);
  const int64_t C = x.dim(-1), rows = C == 0 ? 0 : x.size() / C;
  row_sums(cpu, rows, C, out, mode, workspace, [x = x.data()](int64_t i) { return to_float(x[i]); });
}

}  // namespace

void sum_rows(Cpu& cpu, View<const float> x, View<float> out, Accumulate mode, View<float> workspace) {
  plain_row_sums(cpu, x, out, mode, workspace);
}

void sum_rows(Cpu& cpu, View<const bfloat16> x, View<float> out, Accumulate mode, View<float> workspace) {
  plain_row_sums(cpu, x, out, mode, workspace);
}

template <MapType T>
void relu_backward_sum_rows(Cpu& cpu, In<T> y, In<T> grad_y, View<T> grad_x, View<float> out, Accumulate mode,
                            View<float> workspace) {
  check_relu_backward_sum_rows(y.shape(), grad_y.shape(), grad_x.shape(), out, workspace);
  const int64_t C = y.dim(-1), rows = C == 0 ? 0 : y.size() / C;
  row_sums(cpu, rows, C, out, mode, workspace, [y = y.data(), from = grad_y.data(), to = grad_x.data()](int64_t i) {
    to[i] = to_float(y[i]) > 0 ? from[i] : T{};
    return to_float(to[i]);
  });
}

template void relu_backward_sum_rows(Cpu&, View<const float>, View<const float>, View<float>, View<float>, Accumulate,
                                     View<float>);
template void relu_backward_sum_rows(Cpu&, View<const bfloat16>, View<const bfloat16>, View<bfloat16>, View<float>,
                                     Accumulate, View<float>);

}  // namespace gradlibra::kernels
