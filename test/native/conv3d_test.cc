// Checks the CPU convolution kernels against a naive double-precision reference, with guard words around
// every buffer. Stand-alone; build and run from the project root:
//
//   K="g++ -std=c++17 -O3 -ffp-contract=fast -c"
//   A="-mavx2 -mfma" B="-mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512"
//   for f in $(cd native/cpu; ls *_kernels.cc | sed s/_kernels.cc//); do
//     $K native/cpu/${f}_kernels.cc -DVOXGRAD_ISA_NAME=portable -o $f.portable.o
//     $K native/cpu/${f}_kernels.cc -DVOXGRAD_ISA_NAME=avx2 $A -o $f.avx2.o
//     $K native/cpu/${f}_kernels.cc -DVOXGRAD_ISA_NAME=avx512 $A $B -o $f.avx512.o
//   done
//   g++ -std=c++17 -O3 -pthread -o conv3d_test test/native/conv3d_test.cc native/core/{tensor,thread_pool}.cc
//     native/cpu/isa.cc $(ls native/cpu/conv?d_*.cc | grep -v kernels) *.{portable,avx2,avx512}.o   (one
//     line)
//   ./conv3d_test                      every pass over the grid; exit status 1 on a failure
//   ./conv3d_test --hash               one hash of all results: equal for every VOXGRAD_THREADS
//
// VOXGRAD_CONV=winograd takes Winograd wherever it fits. VOXGRAD_ISA=avx2 or portable selects other kernels.
// Add -fsanitize=address,undefined to every line for the memory check.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../../native/cpu/conv3d_algorithm.h"
#include "../../native/cpu/isa.h"
#include "conv3d_problems.h"
#include "conv3d_ways.h"

namespace voxgrad::test {
namespace {

const char* const kPassNames[] = {"forward", "input gradient", "weight gradient"};

// Visits (x index, w index, y index) of every product of the convolution.
template <typename Visit>
void forEachProduct(const Conv3dProblem& p, Visit visit) {
  const int64_t cg = p.C / p.groups, kg = p.K / p.groups;
  int64_t yi = 0;
  for (int64_t n = 0; n < p.N; ++n)
    for (int64_t z = 0; z < p.Z; ++z)
      for (int64_t pp = 0; pp < p.P; ++pp)
        for (int64_t q = 0; q < p.Q; ++q)
          for (int64_t k = 0; k < p.K; ++k, ++yi)
            for (int64_t r = 0; r < p.R; ++r)
              for (int64_t s = 0; s < p.S; ++s)
                for (int64_t t = 0; t < p.T; ++t) {
                  const int64_t d = z * p.stride[0] + r * p.dilation[0] - p.pad[0];
                  const int64_t h = pp * p.stride[1] + s * p.dilation[1] - p.pad[1];
                  const int64_t w = q * p.stride[2] + t * p.dilation[2] - p.pad[2];
                  if (d < 0 || d >= p.D || h < 0 || h >= p.H || w < 0 || w >= p.W) continue;
                  for (int64_t c = 0; c < cg; ++c) {
                    visit((((n * p.D + d) * p.H + h) * p.W + w) * p.C + k / kg * cg + c,
                          (((k * p.R + r) * p.S + s) * p.T + t) * cg + c, yi);
                  }
                }
}

std::string describe(const Conv3dProblem& p) {
  char text[256];
  std::snprintf(text, sizeof text,
                "N%ld x %ldx%ldx%ldx%ld w %ld:%ldx%ldx%ld y %ldx%ldx%ld stride %ld,%ld,%ld pad %ld,%ld,%ld "
                "dilation %ld,%ld,%ld groups %ld",
                p.N, p.D, p.H, p.W, p.C, p.K, p.R, p.S, p.T, p.Z, p.P, p.Q, p.stride[0], p.stride[1],
                p.stride[2], p.pad[0], p.pad[1], p.pad[2], p.dilation[0], p.dilation[1], p.dilation[2],
                p.groups);
  return text;
}

int failures = 0;
uint64_t resultHash = 1469598103934665603u;

void check(const Conv3dProblem& p) {
  std::string why;
  if (!p.validate(&why)) {
    std::printf("refused: %s: %s\n", describe(p).c_str(), why.c_str());
    ++failures;
    return;
  }
  const Sizes sizes = sizesOf(p);
  Buffer x(sizes.x), w(sizes.w), y(sizes.y), biasK(p.K), biasC(p.C);
  for (Buffer* buffer : {&x, &w, &y, &biasK, &biasC}) buffer->randomize();
  for (const Pass pass : {Pass::forward, Pass::inputGradient, Pass::weightGradient}) {
    Buffer& a = pass == Pass::inputGradient ? y : x;
    Buffer& b = pass == Pass::weightGradient ? y : w;
    const int64_t count = pass == Pass::forward ? sizes.y : pass == Pass::inputGradient ? sizes.x : sizes.w;
    const bool hasBias = pass != Pass::weightGradient && (p.N + p.C + p.K) % 2 == 0;
    Buffer& bias = pass == Pass::forward ? biasK : biasC;
    std::vector<double> want(static_cast<size_t>(count)), scale(static_cast<size_t>(count));
    for (int64_t i = 0; hasBias && i < count; ++i) {
      want[i] = bias.data()[i % bias.size()];
      scale[i] = std::fabs(want[i]);
    }
    forEachProduct(p, [&](int64_t xi, int64_t wi, int64_t yi) {
      const int64_t ai = pass == Pass::inputGradient ? yi : xi, bi = pass == Pass::weightGradient ? yi : wi;
      const int64_t oi = pass == Pass::forward ? yi : pass == Pass::inputGradient ? xi : wi;
      const double product = static_cast<double>(a.data()[ai]) * b.data()[bi];
      want[oi] += product;
      scale[oi] += std::fabs(product);
    });
    const double largest = *std::max_element(scale.begin(), scale.end());
    for (const Way way : {Way::chosen, Way::volume, Way::slicesOfThree, Way::slices, Way::strided, Way::two,
                          Way::three, Way::four, Way::maps}) {
      if (!canTake(way, p)) continue;
      const size_t bytes = workspaceOf(way, p, pass);
      Buffer out(count), workspace(static_cast<int64_t>(bytes / 4));
      // The guard is one cache line, so the workspace keeps its alignment.
      runBy(way, p, pass, a.data(), b.data(), hasBias ? bias.data() : nullptr, out.data(), workspace.data());
      const bool mixes =
          way != Way::chosen || voxgrad::cpu::chooseAlgorithm(p, pass) != voxgrad::cpu::ConvAlgorithm::direct;
      double worst = 0;
      for (int64_t i = 0; i < count; ++i) {
        // The transforms mix the voxels of a tile, so an error there relates to the largest of its values.
        const double error = std::fabs(out.data()[i] - want[i]) / ((mixes ? largest : scale[i]) + 1e-30);
        if (!(error <= worst)) worst = error;
        uint32_t bits;
        std::memcpy(&bits, out.data() + i, sizeof bits);
        resultHash = (resultHash ^ bits) * 1099511628211u;
      }
      const bool intact = out.intact() && workspace.intact() && a.intact() && b.intact();
      if (!(worst < 2e-6) || !intact) {
        std::printf("FAILED %s%s: %s: error %.3g%s\n", kPassNames[static_cast<int>(pass)],
                    kWayNames[static_cast<int>(way)], describe(p).c_str(), worst,
                    intact ? "" : ", guard words overwritten");
        ++failures;
      }
    }
  }
}

void checkGrid() {
  // Several blocks of tiles and of slices.
  check(problem(1, 14, 5, 61, 33, 40, 3, 1, 1));
  check(problem(2, 13, 6, 34, 16, 17, 3, 1, 2));
  const int64_t channels[] = {1, 2, 3, 5, 8, 14, 16, 17, 32, 40, 64};
  for (const int64_t c : channels) {
    for (const int64_t k : channels) {
      check(problem(1, 2, 3, 5, c, k, 3, 1, 1));
      check(problem(2, 2, 2, 4, c, k, 2, 2, 0));
      check(problem(1, 1, 3, 7, c, k, 1, 1, 0));
    }
  }
  for (const int64_t w : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 23, 25, 32, 50}) {
    for (const int64_t c : {1, 8, 16, 32}) {
      check(problem(2, 2, 3, w, c, c, 3, 1, 1));
      check(problem(1, 3, 4, w, c, 8, 3, 2, 1));
      check(problem(1, 3, 3, w, 8, c, 2, 2, 0));
    }
  }
  check(problem(1, 7, 8, 9, 1, 8, 7, 1, 3));
  check(problem(1, 7, 8, 9, 1, 16, 7, 2, 3));
  check(problem(2, 1, 20, 21, 16, 24, 3, 1, 6, 6));
  check(problem(1, 1, 9, 9, 16, 8, 3, 1, 18, 18));
  check(problem(4, 2, 3, 2, 128, 128, 3, 1, 1));
  // Sub-maps of three voxels and two, two and one, two alone, and of one along one axis.
  for (const int64_t c : {3, 17, 40}) {
    check(problem(2, 1, 7, 8, c, 33, 3, 1, 3, 3));
    check(problem(1, 1, 5, 8, c, 16, 3, 1, 4, 4));
    check(problem(3, 1, 2, 2, c, 20, 3, 1, 1));
    check(problem(2, 1, 15, 9, c, 70, 3, 1, 6, 6));
    check(problem(1, 1, 9, 15, c, 33, 3, 1, 6, 6));
    check(problem(1, 1, 9, 12, c, 9, 3, 1, 6, 6));
  }
  // Many channels: a tap at a time, in chunks of channels, to the last odd vector.
  for (const int64_t w : {1, 5, 6, 19}) {
    check(problem(2, 3, 4, w, 64, 40, 3, 1, 1));
    check(problem(1, 1, 7, w, 40, 300, 3, 2, 1));
    check(problem(1, 1, 13, w, 70, 66, 3, 1, 6, 6));
    check(problem(1, 3, 4, w, 130, 146, 3, 2, 2, 1, 2));
  }
  // Several taps to few channels: rows of some vectors, tiles of rows, blocks of rows and planes.
  for (int64_t k = 1; k <= 4; ++k) {
    for (const int64_t w : {9, 17, 35, 64}) {
      check(problem(2, 3, 9, w, 16, k, 3, 1, 1));
      check(problem(1, 19, 18, w, 9, k, 3, 1, 0));
      check(problem(1, 5, 7, w, 12, k, 5, 1, 2));
      check(problem(1, 1, 21, w, 40, k, 3, 1, 2, 2));
    }
  }
  for (const int64_t groups : {2, 3, 6, 12, 24}) {
    check(problem(1, 3, 4, 6, 24, 24, 3, 1, 1, 1, groups));
    check(problem(2, 3, 4, 6, 24, 48, 3, 2, 1, 1, groups));
    check(problem(1, 1, 9, 10, 24, 24, 3, 1, 2, 2, groups));
  }
  for (const int64_t pad : {0, 1, 2}) {
    for (const int64_t c : {1, 4, 8, 16, 24, 33, 48}) {
      check(problem(2, 4, 6, 8, c, 16, 3, 1, pad));
      check(problem(1, 3, 5, 7, 16, c, 3, 1, pad));
      check(problem(1, 5, 3, 9, c, 40, 3, 1, pad));
    }
  }
  // Slices: every extent modulo the tiles, then those ways to cut the work that need many channels or tiles.
  for (int64_t extent = 5; extent <= 13; ++extent) {
    for (const int64_t pad : {0, 1, 2}) {
      for (const int64_t c : {1, 3, 16, 17, 33}) {
        check(problem(2, 1, extent, 18 - extent, c, 34 - c, 3, 1, pad));
        check(problem(1, 1, extent + 2, extent, c, 16, 3, 1, pad + 1, 1 + pad));
      }
    }
  }
  check(problem(1, 1, 50, 51, 16, 8, 3, 1, 1));
  check(problem(1, 1, 8, 9, 512, 512, 3, 1, 1));
  check(problem(2, 1, 6, 5, 160, 130, 3, 1, 2, 2));
  check(problem(1, 1, 36, 33, 96, 90, 3, 1, 1));
  // Stride 2: every extent modulo the tiles, with and without a stride along the depth; blocks of samples and
  // slices.
  for (int64_t extent = 5; extent <= 13; ++extent) {
    for (const int64_t pad : {0, 1, 2, 3}) {
      for (const int64_t c : {1, 16, 17, 34}) {
        check(problem(2, 1, extent, 18 - extent, c, 35 - c, 3, 2, pad));
        Conv3dProblem p = problem(1, extent % 5 + 2, extent + 4, extent, 35 - c, c, 3, 2, pad);
        check(p);
        p.stride[0] = 1, p.Z = usualExtent(p.D, 3, 1, pad, 1);
        check(p);
      }
    }
  }
  check(problem(3, 9, 18, 20, 70, 72, 3, 2, 1));
  check(problem(5, 1, 18, 17, 150, 135, 3, 2, 1));
  check(problem(1, 31, 34, 70, 5, 17, 3, 2, 1));
  // Rows of more tiles than a block holds, and many slabs.
  check(problem(1, 3, 4, 301, 16, 16, 3, 1, 1));
  check(problem(2, 16, 18, 20, 8, 8, 3, 1, 1));
  const auto draw = [](int64_t low, int64_t high) { return low + randomBelow(high - low + 1); };
  for (int i = 0; i < 600; ++i) {
    Conv3dProblem p;
    p.N = draw(1, 3), p.D = draw(1, 5), p.H = draw(1, 6), p.W = draw(0, 4) ? draw(1, 14) : draw(15, 40);
    p.groups = draw(0, 3) == 0 ? draw(2, 5) : 1;
    p.C = p.groups * draw(1, p.groups > 1 ? 4 : 20), p.K = p.groups * draw(1, p.groups > 1 ? 4 : 36);
    if (draw(0, 9) == 0) p.C = p.K = p.groups = draw(2, 35);
    p.R = draw(1, 4), p.S = draw(1, 4), p.T = draw(1, 5);
    for (int axis = 0; axis < 3; ++axis) {
      p.stride[axis] = draw(1, 3), p.pad[axis] = draw(0, 4), p.dilation[axis] = draw(1, 3);
    }
    // Outputs of any extent: smaller and larger than the usual formula gives.
    p.Z = draw(1, 6), p.P = draw(1, 7), p.Q = draw(0, 3) ? draw(1, 15) : draw(16, 40);
    check(p);
    // The same extents, where Winograd fits.
    p.R = p.S = p.T = 3, p.groups = 1;
    for (int axis = 0; axis < 3; ++axis) p.stride[axis] = p.dilation[axis] = 1;
    if (i % 3 == 0) check(p);
    p.R = 1, p.pad[0] = 0, p.Z = p.D;
    for (int axis = 0; axis < 3; ++axis) p.dilation[axis] = draw(1, 3);
    if (i % 3 == 1) check(p);
    // Stride 2, outputs of any extent again.
    p.R = draw(0, 1) ? 3 : 1, p.pad[0] = draw(0, 3), p.Z = draw(1, 6);
    for (int axis = 0; axis < 3; ++axis) p.stride[axis] = axis == 0 ? draw(1, 2) : 2, p.dilation[axis] = 1;
    if (i % 3 == 2) check(p);
  }
}

void checkValidate() {
  const auto expect = [](bool valid, const Conv3dProblem& p, const char* what) {
    std::string why;
    if (p.validate(&why) == valid && why.empty() == valid) return;
    std::printf("FAILED validate: %s\n", what);
    ++failures;
  };
  Conv3dProblem p;
  expect(true, p, "the smallest problem");
  p.W = 0;
  expect(false, p, "an empty axis");
  p = {};
  p.C = 6, p.K = 4, p.groups = 4;
  expect(false, p, "channels not divisible by groups");
  p = {};
  p.N = p.D = p.H = p.W = int64_t{1} << 20;
  expect(false, p, "more than 2^40 bytes");
  p = {};
  p.stride[2] = 0;
  expect(false, p, "stride 0");
  p = {};
  p.Q = int64_t{1} << 31, p.stride[2] = 1 << 15;
  expect(false, p, "a padded row of 2^46 voxels");
}

}  // namespace
}  // namespace voxgrad::test

int main(int argc, char** argv) {
  using namespace voxgrad::test;
  // Winograd is called by name; what is reached by the choice is then direct.
  setenv("VOXGRAD_CONV", "direct", 0);
  checkValidate();
  checkGrid();
  if (argc > 1 && std::strcmp(argv[1], "--hash") == 0)
    std::printf("%016llx\n", static_cast<unsigned long long>(resultHash));
  else
    std::printf("%s: %s\n", voxgrad::cpu::isaName(), failures ? "FAILED" : "all passed");
  return failures ? 1 : 0;
}
