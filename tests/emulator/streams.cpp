// SPDX-License-Identifier: MIT
// Streams, events and graphs for a device that has done everything when a call returns. A captured stream is recorded
// with what the order of streams and events asks for and no more: a launch of the graph takes any other order.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "cuda_runtime.h"
#include "memory.h"

namespace gradlibra::emulator {
namespace {

struct Node {
  std::function<void()> work;
  std::vector<size_t> after;  // nodes, all earlier ones
  cudaStream_t stream;        // it was recorded on; only to be compared
};
using Nodes = std::vector<Node>;

}  // namespace
}  // namespace gradlibra::emulator

// Handles are the addresses of these.
struct CUstream_st {};
struct CUevent_st {
  int capture = 0;            // the one that it was recorded in, 0: none
  std::vector<size_t> after;  // what then had to end before the event
};
struct CUgraph_st {
  gradlibra::emulator::Nodes nodes;
};
struct CUgraphExec_st {
  gradlibra::emulator::Nodes nodes;
  gradlibra::emulator::Random random;
};

namespace gradlibra::emulator {

namespace {

struct Capture {
  int number = 0;
  cudaStream_t origin = nullptr;
  std::unique_ptr<CUgraph_st> graph;                 // null: nothing is being captured
  std::map<cudaStream_t, std::vector<size_t>> last;  // of each stream that is captured: what its next node comes after
};
Capture& capture() {
  static Capture current;
  return current;
}
bool is_captured(cudaStream_t stream) { return capture().graph != nullptr && capture().last.contains(stream); }

// Whether all that was recorded comes before the end of the stream that the capture began on.
bool is_joined(const Capture& c) {
  std::vector<bool> before(c.graph->nodes.size());
  std::vector<size_t> open = c.last.at(c.origin);
  while (!open.empty()) {
    const size_t node = open.back();
    open.pop_back();
    if (before[node]) continue;
    before[node] = true;
    const auto& after = c.graph->nodes[node].after;
    open.insert(open.end(), after.begin(), after.end());
  }
  return std::find(before.begin(), before.end(), false) == before.end();
}

GraphShape shape_of(const Nodes& nodes) {
  std::vector<size_t> chain(nodes.size(), 1);  // that ends with this node; what it comes after stands before it
  for (size_t n = 0; n < nodes.size(); ++n)
    for (const size_t before : nodes[n].after) chain[n] = std::max(chain[n], chain[before] + 1);
  return {nodes.size(), nodes.empty() ? 0 : *std::max_element(chain.begin(), chain.end())};
}
GraphShape last_shape;

// Every node once, each behind those that it comes after, else in an order of chance. Seven times out of eight it is
// the turn of the stream that chance has put first this time: among equals one would never be far ahead of another.
void run_in_some_order(const Nodes& nodes, Random& random) {
  std::map<cudaStream_t, uint64_t> rank;
  for (const Node& node : nodes)
    if (!rank.contains(node.stream)) rank[node.stream] = random.bits();
  std::vector<size_t> missing(nodes.size()), ready;
  std::vector<std::vector<size_t>> next(nodes.size());
  for (size_t n = 0; n < nodes.size(); ++n) {
    missing[n] = nodes[n].after.size();
    for (const size_t before : nodes[n].after) next[before].push_back(n);
    if (missing[n] == 0) ready.push_back(n);
  }
  while (!ready.empty()) {
    size_t pick = random.below(ready.size());
    if (random.below(8) != 0)
      for (size_t i = 0; i < ready.size(); ++i)
        if (rank[nodes[ready[i]].stream] < rank[nodes[ready[pick]].stream]) pick = i;
    std::swap(ready[pick], ready.back());
    const size_t node = ready.back();
    ready.pop_back();
    nodes[node].work();
    for (const size_t n : next[node])
      if (--missing[n] == 0) ready.push_back(n);
  }
}

}  // namespace

GraphShape last_graph() { return last_shape; }

bool record(cudaStream_t stream, std::function<void()> work) {
  if (!is_captured(stream)) return false;
  Nodes& nodes = capture().graph->nodes;
  std::vector<size_t>& last = capture().last[stream];
  if (work) {
    nodes.push_back({std::move(work), std::move(last), stream});
    last = {nodes.size() - 1};
  }
  return true;
}

}  // namespace gradlibra::emulator

using gradlibra::emulator::capture;
using gradlibra::emulator::is_captured;
using gradlibra::emulator::is_joined;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0, *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return is_captured(stream) ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  *event = {};
  if (is_captured(stream)) *event = {capture().number, capture().last[stream]};
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const bool recorded = capture().graph != nullptr && event->capture == capture().number;
  return recorded ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (capture().graph == nullptr) return cudaSuccess;
  // A captured stream cannot wait for what is not part of the graph; one that waits for it becomes part of it.
  if (event->capture != capture().number) return is_captured(stream) ? cudaErrorStreamCaptureIsolation : cudaSuccess;
  std::vector<size_t>& last = capture().last[stream];
  for (const size_t node : event->after)
    if (std::find(last.begin(), last.end(), node) == last.end()) last.push_back(node);
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  static cudaStreamCaptureMode current = cudaStreamCaptureModeThreadLocal;
  std::swap(*mode, current);
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (capture().graph != nullptr) return cudaErrorStreamCaptureUnsupported;
  capture() = {capture().number + 1, stream, std::make_unique<CUgraph_st>(), {{stream, {}}}};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (!is_captured(stream) || stream != capture().origin) return cudaErrorInvalidValue;
  const bool joined = is_joined(capture());
  const std::unique_ptr<CUgraph_st> recorded = std::move(capture().graph);
  capture().last.clear();
  *graph = joined ? new CUgraph_st{std::move(recorded->nodes)} : nullptr;
  return joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  gradlibra::emulator::last_shape = gradlibra::emulator::shape_of(graph->nodes);
  *exec = new CUgraphExec_st{graph->nodes, gradlibra::emulator::Random(gradlibra::emulator::seed())};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
  gradlibra::emulator::run_in_some_order(exec->nodes, exec->random);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t stream) {
  return is_captured(stream) ? cudaErrorStreamCaptureUnsupported : cudaMalloc(pointer, bytes);
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return cudaFree(pointer); }
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  *pool = nullptr;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  *pointer = std::malloc(bytes == 0 ? 1 : bytes);
  return *pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
cudaError_t cudaFreeHost(void* pointer) {
  std::free(pointer);
  return cudaSuccess;
}
