// SPDX-License-Identifier: MIT
#include "runtime/device/cublaslt_plan.h"

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <vector>

#include "kernels/cuda.h"
#include "runtime/device/cublaslt_library.h"
#include "runtime/device/timer.h"

namespace gradlibra {

namespace {

using Kind = CudnnProblem::Kind;

// How many of the heuristics' engines tune() measures.
constexpr int kTimedProducts = 6;

template <auto CublasltLibrary::*Destroy>
struct DestroyBy {
  const CublasltLibrary* library = nullptr;
  template <class T>
  void operator()(T* descriptor) const noexcept {
    (library->*Destroy)(descriptor);
  }
};
template <class T, auto CublasltLibrary::*Destroy>
using Owned = std::unique_ptr<T, DestroyBy<Destroy>>;
using Description = Owned<cublasLtMatmulDescOpaque_t, &CublasltLibrary::cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayoutOpaque_t, &CublasltLibrary::cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreferenceOpaque_t, &CublasltLibrary::cublasLtMatmulPreferenceDestroy>;

cudaDataType_t data_type(DType type) { return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

cublasComputeType_t compute_type(const CudnnProblem& p, const CudnnOptions& options) {
  if (p.maps == DType::bf16) return CUBLAS_COMPUTE_32F;
  return options.float_math == FloatMath::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F_PEDANTIC;
}

cublasLtEpilogue_t epilogue(const CudnnProblem& p) {
  const bool relu = p.activation == kernels::Activation::relu;
  if (p.bias) return relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
  return relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT;
}

// cuBLASLt's matrices are column-major, so each of ours is its transpose there, with C or K as the number of rows:
//   forward          y^T           = weight * x^T
//   backward_data    grad_x^T      = weight^T * grad_y^T
//   backward_weight  grad_weight^T = x^T * grad_y
struct Matrices {
  Matrices(const CublasltLibrary& library, const CudnnProblem& p) {
    const int64_t M = p.dims.N * p.dims.P * p.dims.Q, K = p.dims.K, C = p.dims.C;
    const auto layout = [&](DType type, int64_t rows, int64_t columns) {
      cublasLtMatrixLayout_t made = nullptr;
      check(library.cublasLtMatrixLayoutCreate(&made, data_type(type), static_cast<uint64_t>(rows),
                                               static_cast<uint64_t>(columns), rows));
      return Layout(made, {&library});
    };
    switch (p.kind) {
      case Kind::forward:
        transpose_a = true;
        a = layout(p.maps, C, K), b = layout(p.maps, C, M), d = layout(p.result, K, M);
        break;
      case Kind::backward_data:
        a = layout(p.maps, C, K), b = layout(p.maps, K, M), d = layout(p.result, C, M);
        break;
      case Kind::backward_weight:
        transpose_b = true;
        a = layout(p.maps, C, M), b = layout(p.maps, K, M), d = layout(p.result, C, K);
        break;
    }
  }
  Layout a, b, d;
  bool transpose_a = false, transpose_b = false;
};

template <class T>
void set(const CublasltLibrary& library, const Description& description, cublasLtMatmulDescAttributes_t attribute,
         const T& value) {
  check(library.cublasLtMatmulDescSetAttribute(description.get(), attribute, &value, sizeof value));
}

// bias: engines are chosen by its alignment.
Description make_description(const CublasltLibrary& library, const CudnnProblem& p, const CudnnOptions& options,
                             const Matrices& matrices, const void* bias) {
  cublasLtMatmulDesc_t made = nullptr;
  check(library.cublasLtMatmulDescCreate(&made, compute_type(p, options), CUDA_R_32F));
  Description description(made, {&library});
  const auto operation = [](bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; };
  set(library, description, CUBLASLT_MATMUL_DESC_TRANSA, operation(matrices.transpose_a));
  set(library, description, CUBLASLT_MATMUL_DESC_TRANSB, operation(matrices.transpose_b));
  set(library, description, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue(p));
  if (p.bias) set(library, description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  return description;
}

Preference make_preference(const CublasltLibrary& library, const CudnnOptions& options) {
  cublasLtMatmulPreference_t made = nullptr;
  check(library.cublasLtMatmulPreferenceCreate(&made));
  Preference preference(made, {&library});
  const auto prefer = [&]<class T>(cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    check(library.cublasLtMatmulPreferenceSetAttribute(made, attribute, &value, sizeof value));
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(options.workspace_limit_bytes));
  // Parts of a sum are float, and joined in a fixed order.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (const auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                               CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    prefer(attribute, static_cast<uint32_t>(CublasltPlan::kAlignment));
  return preference;
}

// Of the current device; never destroyed, as the plans that use it.
cublasLtHandle_t handle_of_device(const CublasltLibrary& library) {
  static std::mutex& mutex = *new std::mutex;
  static std::map<int, cublasLtHandle_t>& handles = *new std::map<int, cublasLtHandle_t>;
  int device = 0;
  check(cudaGetDevice(&device));
  const std::lock_guard lock(mutex);
  cublasLtHandle_t& handle = handles[device];
  if (handle == nullptr) check(library.cublasLtCreate(&handle));
  return handle;
}

const void* const kSomeAlignedAddress = reinterpret_cast<const void*>(CublasltPlan::kAlignment);

}  // namespace

struct CublasltPlan::Product {
  Product(const CublasltLibrary& library_, const CudnnProblem& problem_, const CudnnOptions& options_)
      : library(library_), problem(problem_), options(options_), matrices(library_, problem_) {}

  const CublasltLibrary& library;
  CudnnProblem problem;
  CudnnOptions options;
  Matrices matrices;
  cublasLtHandle_t handle = nullptr;
  std::vector<cublasLtMatmulHeuristicResult_t> candidates;  // the first is used
};

bool is_matrix_product(const kernels::ConvDims& dims) {
  return dims.R == 1 && dims.S == 1 && dims.stride == 1 && dims.padding == 0;
}

bool prefers_cublaslt(const CudnnProblem& problem) {
  return problem.kind != Kind::backward_data || problem.mode == Accumulate::overwrite;
}

CublasltPlan::CublasltPlan(std::unique_ptr<Product> product) : product_(std::move(product)) {}
CublasltPlan::~CublasltPlan() = default;

void CublasltPlan::describe(const CudnnProblem& problem, const CudnnOptions& options) {
  std::string why;
  const CublasltLibrary* library = cublaslt(why);
  if (library == nullptr) throw std::runtime_error(why);
  const Matrices matrices(*library, problem);
  const Description description = make_description(*library, problem, options, matrices, kSomeAlignedAddress);
  const Preference preference = make_preference(*library, options);
}

std::unique_ptr<CublasltPlan> CublasltPlan::find(const CudnnProblem& problem, const CudnnOptions& options,
                                                 std::string& why) {
  require(is_matrix_product(problem.dims), "CublasltPlan", "no matrix product is the " + problem.to_string());
  const CublasltLibrary* library = cublaslt(why);
  if (library == nullptr) return nullptr;
  auto product = std::make_unique<Product>(*library, problem, options);
  product->handle = handle_of_device(*library);
  const Matrices& m = product->matrices;
  const Description description = make_description(*library, problem, options, m, kSomeAlignedAddress);
  const Preference preference = make_preference(*library, options);
  const int wanted = options.tuning == ConvTuning::timed ? kTimedProducts : 1;
  product->candidates.resize(static_cast<size_t>(wanted));
  int found = 0;
  const cublasStatus_t status =
      library->cublasLtMatmulAlgoGetHeuristic(product->handle, description.get(), m.a.get(), m.b.get(), m.d.get(),
                                              m.d.get(), preference.get(), wanted, product->candidates.data(), &found);
  if (status != CUBLAS_STATUS_SUCCESS) {
    why = library->cublasLtGetStatusString(status);
    return nullptr;
  }
  product->candidates.resize(static_cast<size_t>(found));
  std::erase_if(product->candidates, [](const auto& candidate) { return candidate.state != CUBLAS_STATUS_SUCCESS; });
  if (product->candidates.empty()) {
    why = "cuBLASLt has no engine for the " + problem.to_string();
    return nullptr;
  }
  return std::unique_ptr<CublasltPlan>(new CublasltPlan(std::move(product)));
}

int64_t CublasltPlan::workspace_bytes() const {
  size_t bytes = 0;
  for (const auto& candidate : product_->candidates) bytes = std::max(bytes, candidate.workspaceSize);
  return static_cast<int64_t>(bytes);
}

bool CublasltPlan::is_aligned(const CudnnOperands& o) {
  for (const void* p : {o.first, o.second, static_cast<const void*>(o.result), o.bias, o.residual})
    if (reinterpret_cast<uintptr_t>(p) % kAlignment != 0) return false;
  return true;
}

void CublasltPlan::tune(cudaStream_t stream, const CudnnOperands& operands, void* workspace) {
  constexpr int kRuns = 5;
  auto& candidates = product_->candidates;
  if (candidates.size() < 2) return;
  Cuda executor(stream);
  const std::unique_ptr<Timer> timer = make_timer(executor);
  size_t fastest = 0;
  double least = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < candidates.size(); ++i) {
    run_candidate(i, stream, operands, workspace);  // loads the kernels
    timer->start();
    for (int run = 0; run < kRuns; ++run) run_candidate(i, stream, operands, workspace);
    const double seconds = timer->stop();
    if (seconds >= least) continue;
    fastest = i;
    least = seconds;
  }
  candidates = {candidates[fastest]};
}

void CublasltPlan::run(cudaStream_t stream, const CudnnOperands& operands, void* workspace) const {
  run_candidate(0, stream, operands, workspace);
}

void CublasltPlan::run_candidate(size_t candidate, cudaStream_t stream, const CudnnOperands& operands,
                                 void* workspace) const {
  const Product& p = *product_;
  const bool weights_first = p.problem.kind != Kind::backward_weight;
  const void* a = weights_first ? operands.second : operands.first;
  const void* b = weights_first ? operands.first : operands.second;
  // D = 1 * A * B + beta * C, with C the residual or what is added to; it is not read where beta is 0.
  const float one = 1, beta = p.problem.residual || p.problem.mode == Accumulate::add ? 1 : 0;
  const void* c = p.problem.residual ? operands.residual : operands.result;
  // The address of the bias is part of the description, and plans are shared by threads.
  const Description description = make_description(p.library, p.problem, p.options, p.matrices, operands.bias);
  const auto& chosen = p.candidates[candidate];
  check(p.library.cublasLtMatmul(p.handle, description.get(), &one, a, p.matrices.a.get(), b, p.matrices.b.get(), &beta,
                                 c, p.matrices.d.get(), operands.result, p.matrices.d.get(), &chosen.algo, workspace,
                                 chosen.workspaceSize, stream));
}

}  // namespace gradlibra
