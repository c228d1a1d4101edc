// SPDX-License-Identifier: MIT
// The one file that sees NVIDIA's cudnn-frontend. Its JSON support is left out: nothing here is stored.
#include "runtime/device/cudnn_plan.h"

#include <cudnn_frontend.h>

#include <algorithm>
#include <limits>

#include "runtime/device/cuda_handles.h"
#include "runtime/device/cudnn_handle.h"

namespace gradlibra {

namespace {

namespace fe = cudnn_frontend;
using fe::graph::Tensor_attributes;
using TensorPointer = std::shared_ptr<Tensor_attributes>;
using Kind = CudnnProblem::Kind;
using kernels::ConvDims;

// How many of the heuristics' plans tune() measures: the best one is rarely further down, and each costs time to build.
constexpr size_t kTimedPlans = 6;

void check(const fe::error_object& error, std::source_location at = std::source_location::current()) {
  if (error.is_good()) return;
  throw std::runtime_error(std::string(at.file_name()) + ":" + std::to_string(at.line()) + ": cuDNN: " + error.err_msg);
}

enum Uid : int64_t { kFirst = 1, kSecond, kResult, kBias, kResidual };

fe::DataType_t data_type(DType type) { return type == DType::bf16 ? fe::DataType_t::BFLOAT16 : fe::DataType_t::FLOAT; }

// cuDNN names dimensions in the order N, C, H, W whatever the layout; the strides say that C is innermost.
Tensor_attributes channels_last(int64_t n, int64_t h, int64_t w, int64_t c, DType type) {
  Tensor_attributes t;
  t.set_dim({n, c, h, w}).set_stride({h * w * c, 1, w * c, c}).set_data_type(data_type(type));
  return t;
}

// The shapes of a problem as cuDNN's tensors.
struct Tensors {
  explicit Tensors(const CudnnProblem& p)
      : x(channels_last(p.dims.N, p.dims.H, p.dims.W, p.dims.C, p.maps)),
        weight(channels_last(p.dims.K, p.dims.R, p.dims.S, p.dims.C, p.maps)),
        y(channels_last(p.dims.N, p.dims.P, p.dims.Q, p.dims.K, p.maps)),
        bias(channels_last(1, 1, 1, p.dims.K, p.maps)) {}
  Tensor_attributes x, weight, y, bias;
};

template <class Attributes>
Attributes geometry(const kernels::ConvDims& d) {
  Attributes attributes;
  attributes.set_padding({d.padding, d.padding})
      .set_stride({d.stride, d.stride})
      .set_dilation({d.dilation, d.dilation});
  return attributes;
}

TensorPointer pointwise(fe::graph::Graph& graph, fe::PointwiseMode_t mode, const TensorPointer& a,
                        const TensorPointer& b = nullptr) {
  fe::graph::Pointwise_attributes attributes;
  attributes.set_mode(mode);
  return b ? graph.pointwise(a, b, attributes) : graph.pointwise(a, attributes);
}

// activation(x + residual + bias): in this order, and with a bias of the maps' type, cuDNN has engines that need no
// compiling. cuDNN's ReLU is told to keep NaN, as kernels::relu does.
TensorPointer finish(fe::graph::Graph& graph, const CudnnProblem& p, Tensors& t, TensorPointer x) {
  if (p.residual) x = pointwise(graph, fe::PointwiseMode_t::ADD, x, graph.tensor(t.y.set_uid(kResidual)));
  if (p.bias) x = pointwise(graph, fe::PointwiseMode_t::ADD, x, graph.tensor(t.bias.set_uid(kBias)));
  if (p.activation == kernels::Activation::relu) x = pointwise(graph, fe::PointwiseMode_t::RELU_FWD, x);
  return x;
}

void describe(fe::graph::Graph& graph, const CudnnProblem& p) {
  Tensors t(p);
  TensorPointer result;
  Tensor_attributes shape = t.y;
  switch (p.kind) {
    case Kind::forward:
      result = finish(graph, p, t,
                      graph.conv_fprop(graph.tensor(t.x.set_uid(kFirst)), graph.tensor(t.weight.set_uid(kSecond)),
                                       geometry<fe::graph::Conv_fprop_attributes>(p.dims)));
      break;
    case Kind::backward_data:
      result = graph.conv_dgrad(graph.tensor(t.y.set_uid(kFirst)), graph.tensor(t.weight.set_uid(kSecond)),
                                geometry<fe::graph::Conv_dgrad_attributes>(p.dims));
      shape = t.x;
      break;
    case Kind::backward_weight:
      result = graph.conv_wgrad(graph.tensor(t.y.set_uid(kSecond)), graph.tensor(t.x.set_uid(kFirst)),
                                geometry<fe::graph::Conv_wgrad_attributes>(p.dims));
      shape = t.weight;
      break;
  }
  result->set_output(true)
      .set_uid(kResult)
      .set_dim(shape.get_dim())
      .set_stride(shape.get_stride())
      .set_data_type(data_type(p.result));
}

// The data gradient with beta = 1: grad_x += f(grad_y, weight), rounded once.
fe::Operation adding_data_gradient(const ConvDims& d, const fe::Tensor& grad_y, const fe::Tensor& weight,
                                   const fe::Tensor& grad_x) {
  const int64_t padding[] = {d.padding, d.padding}, stride[] = {d.stride, d.stride};
  const int64_t dilation[] = {d.dilation, d.dilation};
  const fe::ConvDesc convolution = fe::ConvDescBuilder()
                                       .setComputeType(fe::DataType_t::FLOAT)
                                       .setMathMode(fe::ConvolutionMode_t::CROSS_CORRELATION)
                                       .setSpatialDimCount(2)
                                       .setPrePadding(2, padding)
                                       .setPostPadding(2, padding)
                                       .setSpatialStride(2, stride)
                                       .setDilation(2, dilation)
                                       .build();
  return fe::OperationBuilder(fe::DescriptorType_t::OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)
      .setdyDesc(grad_y)
      .setwDesc(weight)
      .setdxDesc(grad_x)
      .setcDesc(convolution)
      .setAlpha(1.0f)
      .setBeta(1.0f)
      .build();
}

// cudnn-frontend's graphs overwrite: it makes every convolution with beta = 0, and nothing in its interface changes
// that. Where a problem adds, the operation it has made is exchanged here for the same with beta = 1, before engines
// are sought.
class ProblemGraph final : public fe::graph::Graph {
 public:
  explicit ProblemGraph(const CudnnProblem& problem) : problem_(problem) {}

 protected:
  using TensorsById = std::unordered_map<int64_t, std::shared_ptr<fe::Tensor>>;
  fe::error_t create_cudnn_operations(std::unordered_set<int64_t>& ids,
                                      std::vector<std::shared_ptr<fe::Operation>>& made,
                                      fe::graph::managed_backend_descriptor_t& raw,
                                      TensorsById& tensors) const override {
    const fe::error_t status = Graph::create_cudnn_operations(ids, made, raw, tensors);
    if (status.is_bad() || problem_.mode == Accumulate::overwrite) return status;
    try {
      made = {std::make_shared<fe::Operation>(
          adding_data_gradient(problem_.dims, *tensors.at(kFirst), *tensors.at(kSecond), *tensors.at(kResult)))};
    } catch (const fe::cudnnException& e) {
      return {fe::error_code_t::CUDNN_BACKEND_API_FAILED, e.what()};
    }
    return status;
  }

 private:
  CudnnProblem problem_;
};

// Which engines are out of the question. cuDNN has no switch for TF32 in its graph interface: an engine that reads
// float and multiplies on tensor cores rounds to TF32 on the way, and says TENSOR_CORE; without those, float stays
// float. (Whoever sets NVIDIA_TF32_OVERRIDE=0 in the environment forbids TF32 to all of NVIDIA's libraries, also under
// FloatMath::tf32.)
std::vector<fe::NumericalNote_t> excluded(const CudnnProblem& p, const CudnnOptions& options) {
  // Sums are float (runtime/device/convolution.h).
  std::vector<fe::NumericalNote_t> notes{fe::NumericalNote_t::REDUCED_PRECISION_REDUCTION};
  if (p.maps == DType::f32) notes.push_back(fe::NumericalNote_t::DOWN_CONVERT_INPUTS);
  if (p.maps == DType::f32 && options.float_math == FloatMath::fp32) notes.push_back(fe::NumericalNote_t::TENSOR_CORE);
  if (options.deterministic) notes.push_back(fe::NumericalNote_t::NONDETERMINISTIC);
  return notes;
}

// What `options` say, or twice the size of the maps. What an engine needs to bring an image's three channels to eight
// grows with the batch; and in float without tensor cores all but the slowest engine (a fiftieth of the others' speed
// on an H100) copy both maps, and a little more, into another layout.
int64_t workspace_limit(const CudnnProblem& p, const CudnnOptions& options) {
  const ConvDims& d = p.dims;
  const int64_t elements = d.N * (d.H * d.W * d.C + d.P * d.Q * d.K);
  return std::max(options.workspace_limit_bytes, 2 * elements * (p.maps == DType::bf16 ? 2 : 4));
}

}  // namespace

struct CudnnPlan::Graph {
  ProblemGraph graph;
};

std::string CudnnProblem::to_string() const {
  const char* names[] = {"forward", "gradient of the data", "gradient of the weight"};
  std::string s = std::string(names[static_cast<int>(kind)]) + " of x " +
                  Shape{dims.N, dims.H, dims.W, dims.C}.to_string() + ", weight " +
                  Shape{dims.K, dims.R, dims.S, dims.C}.to_string() + ", stride " + std::to_string(dims.stride) +
                  ", padding " + std::to_string(dims.padding) + ", dilation " + std::to_string(dims.dilation) +
                  (maps == DType::bf16 ? ", bf16" : ", f32");
  if (result != maps) s += result == DType::bf16 ? " to bf16" : " to f32";
  if (bias) s += " + bias";
  if (residual) s += " + residual";
  if (activation == kernels::Activation::relu) s += " + relu";
  if (mode == Accumulate::add) s += ", added";
  return s;
}

std::array<int64_t, 19> CudnnProblem::key() const {
  return {static_cast<int64_t>(kind),
          dims.N,
          dims.H,
          dims.W,
          dims.C,
          dims.K,
          dims.R,
          dims.S,
          dims.P,
          dims.Q,
          dims.stride,
          dims.padding,
          dims.dilation,
          static_cast<int64_t>(maps),
          static_cast<int64_t>(result),
          bias,
          residual,
          static_cast<int64_t>(activation),
          static_cast<int64_t>(mode)};
}

CudnnPlan::CudnnPlan(std::unique_ptr<Graph> graph) : graph_(std::move(graph)) {}
CudnnPlan::~CudnnPlan() = default;

std::unique_ptr<CudnnPlan> CudnnPlan::find(const CudnnTarget& target, const CudnnProblem& problem,
                                           const CudnnOptions& options, CudnnEngines engines, std::string& why) {
  require(problem.mode == Accumulate::overwrite || problem.kind == Kind::backward_data, "CudnnPlan",
          "no plan adds the " + problem.to_string());
  std::unique_ptr<CudnnPlan> plan(new CudnnPlan(std::unique_ptr<Graph>(new Graph{ProblemGraph(problem)})));
  fe::graph::Graph& graph = plan->graph_->graph;
  graph.set_intermediate_data_type(fe::DataType_t::FLOAT).set_compute_data_type(fe::DataType_t::FLOAT);
  if (!target.description.empty()) {
    auto properties = std::make_shared<fe::DeviceProperties>();
    check(properties->deserialize({target.description.begin(), target.description.end()}));
    graph.set_device_properties(properties);
  }
  describe(graph, problem);
  // A graph that does not hang together is a bug; an engine that does not exist is an answer.
  check(graph.validate());
  fe::error_object status = graph.build_operation_graph(target.handle);
  if (status.is_good()) status = graph.create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK});
  if (status.is_bad()) {
    why = status.err_msg;
    return nullptr;
  }
  graph.deselect_numeric_notes(excluded(problem, options));
  if (engines == CudnnEngines::ready_made) graph.deselect_behavior_notes({fe::BehaviorNote_t::RUNTIME_COMPILATION});
  graph.deselect_workspace_greater_than(workspace_limit(problem, options));
  const size_t wanted = options.tuning == ConvTuning::timed ? kTimedPlans : 1;
  for (int64_t i = 0; i < graph.get_execution_plan_count() && plan->candidates_.size() < wanted; ++i) {
    status = graph.build_plan_at_index(i);
    if (status.is_good()) plan->candidates_.push_back(i);
  }
  if (!plan->candidates_.empty()) return plan;
  why = "none of " + std::to_string(graph.get_execution_plan_count()) + " plans fits; the last: " + status.err_msg;
  return nullptr;
}

int64_t CudnnPlan::workspace_bytes() const {
  int64_t bytes = 0;
  for (const int64_t i : candidates_) bytes = std::max(bytes, graph_->graph.get_workspace_size_plan_at_index(i));
  return bytes;
}

std::string CudnnPlan::engine() const {
  std::string name;
  check(graph_->graph.get_plan_name_at_index(candidates_.front(), name));
  return name;
}

void CudnnPlan::tune(cudnnHandle_t handle, const CudnnOperands& operands, void* workspace) {
  constexpr int kRuns = 5;
  cudaStream_t stream = nullptr;
  gradlibra::check(cudnnGetStream(handle, &stream));
  const Event start = make_event(cudaEventDefault), stop = make_event(cudaEventDefault);
  const auto milliseconds = [&](size_t candidate, int runs) {
    gradlibra::check(cudaEventRecord(start.get(), stream));
    for (int run = 0; run < runs; ++run) run_candidate(candidate, handle, operands, workspace);
    gradlibra::check(cudaEventRecord(stop.get(), stream));
    gradlibra::check(cudaEventSynchronize(stop.get()));
    float ms = 0;
    gradlibra::check(cudaEventElapsedTime(&ms, start.get(), stop.get()));
    return ms / static_cast<float>(runs);
  };
  size_t fastest = 0;
  float least = std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < candidates_.size(); ++i) {
    run_candidate(i, handle, operands, workspace);  // loads the kernels
    if (milliseconds(i, 1) > 2 * least) continue;   // some take a hundred times as long as others
    const float ms = milliseconds(i, kRuns);
    if (ms >= least) continue;
    fastest = i;
    least = ms;
  }
  candidates_ = {candidates_[fastest]};
}

void CudnnPlan::run(cudnnHandle_t handle, const CudnnOperands& operands, void* workspace) const {
  run_candidate(0, handle, operands, workspace);
}

void CudnnPlan::run_candidate(size_t candidate, cudnnHandle_t handle, const CudnnOperands& operands,
                              void* workspace) const {
  std::unordered_map<int64_t, void*> pointers{{kFirst, const_cast<void*>(operands.first)}, {kResult, operands.result}};
  // cuDNN wants the graph's tensors and no others.
  if (operands.second != nullptr) pointers.emplace(kSecond, const_cast<void*>(operands.second));
  if (operands.bias != nullptr) pointers.emplace(kBias, const_cast<void*>(operands.bias));
  if (operands.residual != nullptr) pointers.emplace(kResidual, const_cast<void*>(operands.residual));
  check(graph_->graph.execute_plan_at_index(handle, pointers, workspace, candidates_[candidate]));
}

}  // namespace gradlibra
