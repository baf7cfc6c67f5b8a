#include <mutex>

#include "conv_cudnn.h"
#include "conv_tile.h"
#include "cudnn.h"

namespace voxgrad::cuda {
namespace {

using cudnn::Library;

void expect(cudnn::Status status, const char* what) {
  if (status != cudnn::success)
    throw Error("ERR_DEVICE",
                std::string("cuDNN, ") + what + ": " + cudnn::library()->GetErrorString(status));
}

// What cuDNN needs to know of a problem whose output has the usual extents.
struct Shape {
  int axes;  // of space
  int x[5], w[5], y[5];
  int pad[3], stride[3], dilation[3];
  int groups;
  cudnn::Mode mode;
};

// Batch and channels come first in cuDNN's extents, whatever the order in memory. Slices have two axes.
Shape shapeOf(const Gather& gather) {
  const GatherAxis(&axis)[3] = gather.axis;
  const bool flat = axis[0].source == 1 && axis[0].output == 1 && axis[0].taps == 1;
  Shape shape{flat ? 2 : 3,
              {},
              {},
              {},
              {},
              {},
              {},
              gather.groups,
              gather.transposed ? cudnn::convolution : cudnn::crossCorrelation};
  shape.x[0] = shape.y[0] = static_cast<int>(gather.batch);
  shape.x[1] = gather.groups * gather.depth;
  shape.y[1] = shape.w[0] = gather.groups * gather.columns;
  shape.w[1] = gather.depth;
  for (int i = 0; i < shape.axes; i++) {
    const GatherAxis& from = axis[i + 3 - shape.axes];
    shape.x[i + 2] = from.source;
    shape.y[i + 2] = from.output;
    shape.w[i + 2] = from.taps;
    shape.pad[i] = gather.transposed ? from.dilation * (from.taps - 1) - from.pad : from.pad;
    shape.stride[i] = from.stride;
    shape.dilation[i] = from.dilation;
  }
  return shape;
}

bool isUsual(const Gather& gather) {
  if (gather.batch >= int64_t{1} << 31) return false;
  const Shape shape = shapeOf(gather);
  for (int i = 0; i < shape.axes; i++) {
    if (shape.pad[i] < 0 || (gather.transposed && shape.stride[i] != 1)) return false;
    const int64_t reach = int64_t{shape.dilation[i]} * (shape.w[i + 2] - 1);
    const int64_t room = int64_t{shape.x[i + 2]} + 2 * int64_t{shape.pad[i]} - reach - 1;
    if (room < 0 || room / shape.stride[i] + 1 != shape.y[i + 2]) return false;
  }
  return true;
}

// Descriptors of a problem, for one call.
class Descriptors {
 public:
  Descriptors(const Shape& shape, Precision precision) {
    const Library& l = *cudnn::library();
    const int axes = shape.axes + 2;
    expect(l.CreateTensorDescriptor(&x), "descriptor");
    expect(l.CreateTensorDescriptor(&y), "descriptor");
    expect(l.CreateFilterDescriptor(&w), "descriptor");
    expect(l.CreateConvolutionDescriptor(&how), "descriptor");
    expect(l.SetTensorNdDescriptorEx(x, cudnn::formatNhwc, cudnn::dataFloat, axes, shape.x), "input");
    expect(l.SetTensorNdDescriptorEx(y, cudnn::formatNhwc, cudnn::dataFloat, axes, shape.y), "output");
    expect(l.SetFilterNdDescriptor(w, cudnn::dataFloat, cudnn::formatNhwc, axes, shape.w), "filters");
    expect(l.SetConvolutionNdDescriptor(how, shape.axes, shape.pad, shape.stride, shape.dilation, shape.mode,
                                        cudnn::dataFloat),
           "convolution");
    expect(l.SetConvolutionGroupCount(how, shape.groups), "groups");
    expect(l.SetConvolutionMathType(how, precision == Precision::f32 ? cudnn::fmaMath : cudnn::defaultMath),
           "precision");
  }
  ~Descriptors() {
    const Library& l = *cudnn::library();
    if (x != nullptr) l.DestroyTensorDescriptor(x);
    if (y != nullptr) l.DestroyTensorDescriptor(y);
    if (w != nullptr) l.DestroyFilterDescriptor(w);
    if (how != nullptr) l.DestroyConvolutionDescriptor(how);
  }
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;

  cudnn::TensorDescriptor x = nullptr, y = nullptr;
  cudnn::FilterDescriptor w = nullptr;
  cudnn::ConvolutionDescriptor how = nullptr;
};

// cuDNN's state, of which one thread at a time makes use.
std::mutex handleMutex;

cudnn::Handle handle() {
  static cudnn::Handle made = nullptr;
  if (made == nullptr) {
    expect(cudnn::library()->Create(&made), "start");
    expect(cudnn::library()->SetStream(made, stream()), "stream");
  }
  return made;
}

struct AddBias {
  const float* bias;
  int channels;
  float* output;
  __device__ void operator()(int64_t i) const { output[i] += bias[i % channels]; }
};

size_t bytesOf(const Shape& shape, Precision precision, bool weightGradient, bool* taken) {
  const Library& l = *cudnn::library();
  size_t bytes = 0;
  std::lock_guard<std::mutex> lock(handleMutex);
  const Descriptors d(shape, precision);
  const cudnn::Status status =
      weightGradient ? l.GetConvolutionBackwardFilterWorkspaceSize(handle(), d.x, d.y, d.how, d.w,
                                                                   cudnn::backwardFilter1, &bytes)
                     : l.GetConvolutionForwardWorkspaceSize(handle(), d.x, d.w, d.how, d.y,
                                                            cudnn::forwardPrecomputedGemm, &bytes);
  *taken = status == cudnn::success;
  return bytes;
}

// Activations in bf16 are not asked of it.
bool takes(const Gather& gather, Precision precision, bool weightGradient, size_t* workspace) {
  if (precision == Precision::bf16 || cudnn::library() == nullptr || !isUsual(gather)) return false;
  bool taken = false;
  try {
    *workspace = bytesOf(shapeOf(gather), precision, weightGradient, &taken);
  } catch (const Error&) {
    return false;
  }
  return taken;
}

// Has cuDNN put its kernels on stream(). Emulated, they run there as ours do.
template <class Call>
void enqueue(const char* name, Call call) {
  countLaunch(name);
#ifdef __CUDACC__
  call();
#else
  check(emulation::enqueue(stream(), call), name);
#endif
}

constexpr float one = 1, zero = 0;

}  // namespace

const char* cudnnName(Precision precision) {
  static const auto* strict = new std::string(cudnn::describe() + ", implicit GEMM, f32");
  static const auto* tf32 = new std::string(cudnn::describe() + ", implicit GEMM, tf32");
  return (precision == Precision::f32 ? strict : tf32)->c_str();
}

bool cudnnTakes(const Gather& gather, Precision precision, size_t* workspace) {
  return takes(gather, precision, false, workspace);
}

void runCudnn(const GatherCall& call, void* workspace) {
  size_t bytes = 0;
  if (!cudnnTakes(call.gather, call.precision, &bytes))
    throw Error("ERR_DEVICE", "cuDNN refuses what it accepted before");
  enqueue(cudnnName(call.precision), [call, workspace, bytes] {
    std::lock_guard<std::mutex> lock(handleMutex);
    const Descriptors d(shapeOf(call.gather), call.precision);
    expect(cudnn::library()->ConvolutionForward(handle(), &one, d.x, call.source, d.w, call.weights, d.how,
                                                cudnn::forwardPrecomputedGemm, workspace, bytes, &zero, d.y,
                                                call.output),
           "convolution");
  });
  if (call.bias == nullptr) return;
  const int channels = call.gather.groups * call.gather.columns;
  forEach("addBias", call.gather.outputVoxels() * channels,
          AddBias{call.bias, channels, static_cast<float*>(call.output)});
}

bool cudnnTakesWeightGradient(const Conv3dProblem& problem, Precision precision, size_t* workspace) {
  return takes(gatherOf(problem, false), precision, true, workspace);
}

void runCudnnWeightGradient(const GradientOperands& operands) {
  size_t bytes = 0;
  if (!cudnnTakesWeightGradient(operands.problem, operands.precision, &bytes))
    throw Error("ERR_DEVICE", "cuDNN refuses what it accepted before");
  enqueue(cudnnName(operands.precision), [operands, bytes] {
    std::lock_guard<std::mutex> lock(handleMutex);
    const Descriptors d(shapeOf(gatherOf(operands.problem, false)), operands.precision);
    expect(cudnn::library()->ConvolutionBackwardFilter(handle(), &one, d.x, operands.x, d.y, operands.dy,
                                                       d.how, cudnn::backwardFilter1, operands.workspace,
                                                       bytes, &zero, d.w, operands.dw),
           "weight gradient");
  });
}

}  // namespace voxgrad::cuda
