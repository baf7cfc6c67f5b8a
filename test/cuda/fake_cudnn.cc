// Stands for libcudnn.so.9 in cudnn.test.ts: the functions that the backend calls, computed by plain loops over
// what the descriptors say. Anything unexpected is refused. FAKE_CUDNN_VERSION is the version it claims.
#include <cstdint>
#include <cstdlib>

namespace {

constexpr int good = 0, badParameter = 2000, notSupported = 3000;
constexpr size_t workspaceBytes = 1000;

struct Extents {
  int axes = 0;
  int at[5] = {};
};

struct Convolution {
  int axes = 0;
  int pad[3] = {}, stride[3] = {}, dilation[3] = {};
  bool flipped = false;
  int groups = 1, math = -1;
};

int set(Extents* extents, int format, int type, int axes, const int* from) {
  if (format != 1 || type != 0 || axes < 4 || axes > 5) return badParameter;
  extents->axes = axes;
  for (int i = 0; i < axes; i++) extents->at[i] = from[i];
  return good;
}

// By axes of space, three of them always.
struct Problem {
  int64_t batch, C, K, depth, groups;
  int64_t x[3], w[3], y[3], pad[3], stride[3], dilation[3];
  bool flipped;
};

bool decode(const Extents& x, const Extents& w, const Convolution& how, const Extents& y, Problem* p) {
  const int axes = how.axes;
  if (x.axes != axes + 2 || y.axes != x.axes || w.axes != x.axes || how.math != 3) return false;
  *p = {x.at[0], x.at[1], w.at[0], w.at[1], how.groups, {1, 1, 1}, {1, 1, 1},
        {1, 1, 1}, {0, 0, 0}, {1, 1, 1}, {1, 1, 1}, how.flipped};
  for (int i = 0; i < axes; i++) {
    const int to = 3 - axes + i;
    p->x[to] = x.at[i + 2];
    p->w[to] = w.at[i + 2];
    p->y[to] = y.at[i + 2];
    p->pad[to] = how.pad[i];
    p->stride[to] = how.stride[i];
    p->dilation[to] = how.dilation[i];
    if ((x.at[i + 2] + 2 * how.pad[i] - how.dilation[i] * (w.at[i + 2] - 1) - 1) / how.stride[i] + 1 !=
        y.at[i + 2])
      return false;
  }
  return y.at[0] == x.at[0] && y.at[1] == w.at[0] && w.at[1] * how.groups == x.at[1] &&
         w.at[0] % how.groups == 0;
}

// Calls f(index in x, index in w, index in y) for every product.
template <class F>
void forEachProduct(const Problem& p, F f) {
  const int64_t taps = p.w[0] * p.w[1] * p.w[2], voxels = p.y[0] * p.y[1] * p.y[2];
  for (int64_t n = 0; n < p.batch; n++)
    for (int64_t voxel = 0; voxel < voxels; voxel++)
      for (int64_t tap = 0; tap < taps; tap++) {
        const int64_t out[3] = {voxel / p.y[2] / p.y[1], voxel / p.y[2] % p.y[1], voxel % p.y[2]};
        const int64_t at[3] = {tap / p.w[2] / p.w[1], tap / p.w[2] % p.w[1], tap % p.w[2]};
        int64_t from = n;
        bool inside = true;
        for (int i = 0; i < 3; i++) {
          const int64_t position = out[i] * p.stride[i] + at[i] * p.dilation[i] - p.pad[i];
          inside = inside && position >= 0 && position < p.x[i];
          from = from * p.x[i] + position;
        }
        if (!inside) continue;
        const int64_t filterTap = p.flipped ? taps - 1 - tap : tap;
        for (int64_t k = 0; k < p.K; k++)
          for (int64_t c = 0; c < p.depth; c++)
            f(from * p.C + k / (p.K / p.groups) * p.depth + c, (k * taps + filterTap) * p.depth + c,
              (n * voxels + voxel) * p.K + k);
      }
}

bool isCall(const void* alpha, const void* beta, int algorithm, void* workspace, size_t bytes) {
  if (*static_cast<const float*>(alpha) != 1 || *static_cast<const float*>(beta) != 0 || algorithm != 1)
    return false;
  if (workspace == nullptr || bytes != workspaceBytes) return false;
  for (size_t i = 0; i < bytes; i++) static_cast<char*>(workspace)[i] = 1;
  return true;
}

}  // namespace

extern "C" {

size_t cudnnGetVersion() {
  const char* version = std::getenv("FAKE_CUDNN_VERSION");
  return version != nullptr ? std::strtoull(version, nullptr, 10) : 91501;
}
const char* cudnnGetErrorString(int) { return "the fake refuses"; }
int cudnnCreate(void** handle) {
  static int made;
  *handle = &made;
  return good;
}
int cudnnSetStream(void*, void* stream) { return stream != nullptr ? good : badParameter; }

int cudnnCreateTensorDescriptor(Extents** made) { return *made = new Extents, good; }
int cudnnDestroyTensorDescriptor(Extents* made) { return delete made, good; }
int cudnnSetTensorNdDescriptorEx(Extents* to, int format, int type, int axes, const int* extents) {
  return set(to, format, type, axes, extents);
}
int cudnnCreateFilterDescriptor(Extents** made) { return *made = new Extents, good; }
int cudnnDestroyFilterDescriptor(Extents* made) { return delete made, good; }
int cudnnSetFilterNdDescriptor(Extents* to, int type, int format, int axes, const int* extents) {
  return set(to, format, type, axes, extents);
}
int cudnnCreateConvolutionDescriptor(Convolution** made) { return *made = new Convolution, good; }
int cudnnDestroyConvolutionDescriptor(Convolution* made) { return delete made, good; }
int cudnnSetConvolutionNdDescriptor(Convolution* to, int axes, const int* pad, const int* stride,
                                    const int* dilation, int mode, int type) {
  if (axes < 2 || axes > 3 || mode < 0 || mode > 1 || type != 0) return badParameter;
  to->axes = axes;
  for (int i = 0; i < axes; i++) {
    to->pad[i] = pad[i];
    to->stride[i] = stride[i];
    to->dilation[i] = dilation[i];
  }
  to->flipped = mode == 0;
  return good;
}
int cudnnSetConvolutionGroupCount(Convolution* to, int groups) { return to->groups = groups, good; }
int cudnnSetConvolutionMathType(Convolution* to, int math) { return to->math = math, good; }

// What it does not take: channels that are no multiple of four.
int cudnnGetConvolutionForwardWorkspaceSize(void*, Extents* x, Extents* w, Convolution* how, Extents* y,
                                            int algorithm, size_t* bytes) {
  Problem p;
  if (algorithm != 1 || !decode(*x, *w, *how, *y, &p)) return badParameter;
  *bytes = workspaceBytes;
  return p.C % 4 == 0 && p.K % 4 == 0 ? good : notSupported;
}
int cudnnConvolutionForward(void*, const void* alpha, Extents* xShape, const float* x, Extents* wShape,
                            const float* w, Convolution* how, int algorithm, void* workspace, size_t bytes,
                            const void* beta, Extents* yShape, float* y) {
  Problem p;
  if (!decode(*xShape, *wShape, *how, *yShape, &p) || !isCall(alpha, beta, algorithm, workspace, bytes))
    return badParameter;
  for (int64_t i = 0; i < p.batch * p.y[0] * p.y[1] * p.y[2] * p.K; i++) y[i] = 0;
  forEachProduct(p, [&](int64_t from, int64_t weight, int64_t to) { y[to] += x[from] * w[weight]; });
  return good;
}

int cudnnGetConvolutionBackwardFilterWorkspaceSize(void* handle, Extents* x, Extents* dy, Convolution* how,
                                                   Extents* dw, int algorithm, size_t* bytes) {
  return cudnnGetConvolutionForwardWorkspaceSize(handle, x, dw, how, dy, algorithm, bytes);
}
int cudnnConvolutionBackwardFilter(void*, const void* alpha, Extents* xShape, const float* x,
                                   Extents* dyShape, const float* dy, Convolution* how, int algorithm,
                                   void* workspace, size_t bytes, const void* beta, Extents* dwShape,
                                   float* dw) {
  Problem p;
  if (!decode(*xShape, *dwShape, *how, *dyShape, &p) || !isCall(alpha, beta, algorithm, workspace, bytes))
    return badParameter;
  for (int64_t i = 0; i < p.K * p.w[0] * p.w[1] * p.w[2] * p.depth; i++) dw[i] = 0;
  forEachProduct(p, [&](int64_t from, int64_t weight, int64_t to) { dw[weight] += x[from] * dy[to]; });
  return good;
}
}
