// Times the CPU convolution kernels by themselves. Built as conv3d_test is; run:
//
//   VOXGRAD_THREADS=1 ./conv3d_bench [NAME]   median time and GFLOP/s (taps in the padding counted)
//   ./conv3d_bench --compare [NAME]           direct and Winograd in turns: medians, and what the model
//   chooses
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../../native/core/thread_pool.h"
#include "../../native/cpu/conv3d_algorithm.h"
#include "../../native/cpu/isa.h"
#include "conv3d_problems.h"
#include "conv3d_ways.h"

namespace voxgrad::test {
namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void bench(const char* filter) {
  const struct {
    const char* name;
    Conv3dProblem problem;
  } shapes[] = {
      {"k3 8>8 32x48x32", problem(4, 32, 48, 32, 8, 8, 3, 1, 1)},
      {"k3 16>16 16x24x16", problem(4, 16, 24, 16, 16, 16, 3, 1, 1)},
      {"k3 32>32 8x12x8", problem(4, 8, 12, 8, 32, 32, 3, 1, 1)},
      {"k3 64>64 4x6x4", problem(4, 4, 6, 4, 64, 64, 3, 1, 1)},
      {"k3 128>128 2x3x2", problem(4, 2, 3, 2, 128, 128, 3, 1, 1)},
      {"k3 16>16 64x64x64", problem(1, 64, 64, 64, 16, 16, 3, 1, 1)},
      {"k3 32>32 32x32x32", problem(2, 32, 32, 32, 32, 32, 3, 1, 1)},
      {"k3 64>64 16x16x16", problem(2, 16, 16, 16, 64, 64, 3, 1, 1)},
      {"k3 128>128 8x8x8", problem(2, 8, 8, 8, 128, 128, 3, 1, 1)},
      {"k3 256>256 7x7x5", problem(4, 7, 7, 5, 256, 256, 3, 1, 1)},
      {"k3 1>8 32x48x32", problem(4, 32, 48, 32, 1, 8, 3, 1, 1)},
      {"k7 1>8 32x48x32", problem(4, 32, 48, 32, 1, 8, 7, 1, 3)},
      {"k2s2 8>16 32x48x32", problem(4, 32, 48, 32, 8, 16, 2, 2, 0)},
      {"k2s2 16>32 16x24x16", problem(4, 16, 24, 16, 16, 32, 2, 2, 0)},
      {"k2s2 64>128 4x6x4", problem(4, 4, 6, 4, 64, 128, 2, 2, 0)},
      {"k3s2 8>16 32x48x32", problem(4, 32, 48, 32, 8, 16, 3, 2, 1)},
      {"k3s2 16>32 16x24x16", problem(4, 16, 24, 16, 16, 32, 3, 2, 1)},
      {"k3s2 64>128 4x6x4", problem(4, 4, 6, 4, 64, 128, 3, 2, 1)},
      {"k1 8>2 32x48x32", problem(4, 32, 48, 32, 8, 2, 1, 1, 0)},
      {"k1 16>14 32x48x32", problem(4, 32, 48, 32, 16, 14, 1, 1, 0)},
      {"2-D k3d6 64>64 32x32", problem(4, 1, 32, 32, 64, 64, 3, 1, 6, 6)},
      {"2-D k3 64>64 64x64", problem(4, 1, 64, 64, 64, 64, 3, 1, 1)},
  };
  std::printf("%s, %d thread(s)\n%-24s %25s %25s %25s\n", voxgrad::cpu::isaName(),
              voxgrad::ThreadPool::shared().size(), "ms, GFLOP/s", "forward", "input gradient",
              "weight gradient");
  for (const auto& shape : shapes) {
    if (filter && !std::strstr(shape.name, filter)) continue;
    const Conv3dProblem& p = shape.problem;
    const Sizes sizes = sizesOf(p);
    Buffer x(sizes.x), w(sizes.w), y(sizes.y);
    for (Buffer* buffer : {&x, &w, &y}) buffer->randomize();
    std::printf("%-24s", shape.name);
    for (const Pass pass : {Pass::forward, Pass::inputGradient, Pass::weightGradient}) {
      Buffer& a = pass == Pass::inputGradient ? y : x;
      Buffer& b = pass == Pass::weightGradient ? y : w;
      Buffer out(pass == Pass::forward ? sizes.y : pass == Pass::inputGradient ? sizes.x : sizes.w);
      Buffer workspace(static_cast<int64_t>(workspaceOf(Way::chosen, p, pass) / 4));
      std::vector<double> times;
      for (int i = 0; i < 25; ++i) {
        const double start = seconds();
        runBy(Way::chosen, p, pass, a.data(), b.data(), nullptr, out.data(), workspace.data());
        times.push_back(seconds() - start);
      }
      std::sort(times.begin(), times.end());
      const double median = times[times.size() / 2];
      std::printf(" %12.3f %12.1f", median * 1e3, static_cast<double>(p.flops()) / median / 1e9);
    }
    std::printf("\n");
  }
}

// Median times of the algorithms in turns, where Winograd fits, and the choice.
void compare(const char* filter) {
  std::vector<Conv3dProblem> problems;
  for (const int64_t c : {8, 16, 24, 32, 48, 64, 128, 256}) {
    for (const int64_t extent : {2, 4, 7, 8, 16, 32, 64}) {
      if (c * extent >= 128 && c * extent <= 1024)
        problems.push_back(problem(1, extent, extent, extent, c, c, 3, 1, 1));
    }
  }
  for (const int64_t c : {16, 32, 64, 128, 256}) {
    problems.push_back(problem(2, 1024 / c, 1024 / c, 1024 / c, c, c, 3, 1, 1));
  }
  problems.push_back(problem(4, 32, 48, 32, 8, 8, 3, 1, 1));
  problems.push_back(problem(2, 48, 48, 48, 16, 16, 3, 1, 1));
  problems.push_back(problem(2, 20, 36, 40, 32, 32, 3, 1, 1));
  for (const int64_t c : {1, 2, 8, 16, 32}) {
    problems.push_back(problem(1, 32, 32, 32, c, 16, 3, 1, 1));
    problems.push_back(problem(1, 32, 32, 32, c, 64, 3, 1, 1));
  }
  for (const int64_t c : {8, 16, 32, 64, 128, 256, 512}) {
    for (const int64_t extent : {4, 6, 8, 13, 16, 32, 64}) {
      if (c * extent >= 128 && c * extent <= 4096)
        problems.push_back(problem(4, 1, extent, extent, c, c, 3, 1, 1));
    }
  }
  std::printf("%s, %d thread(s): ms of direct, F(2x2x2,3x3x3) or F(4x4,3x3), F(1x4x4,3x3x3); choice\n",
              voxgrad::cpu::isaName(), voxgrad::ThreadPool::shared().size());
  for (const Conv3dProblem& p : problems) {
    char name[64];
    std::snprintf(name, sizeof name, "%ld>%ld %ldx%ldx%ld N%ld", p.C, p.K, p.D, p.H, p.W, p.N);
    if (filter && !std::strstr(name, filter)) continue;
    const Sizes sizes = sizesOf(p);
    Buffer x(sizes.x), w(sizes.w), y(sizes.y);
    for (Buffer* buffer : {&x, &w, &y}) buffer->randomize();
    std::printf("%-22s", name);
    for (const Pass pass : {Pass::forward, Pass::inputGradient, Pass::weightGradient}) {
      std::vector<Way> ways = {Way::chosen, p.R == 3 ? Way::volume : Way::four};
      if (p.R == 3) ways.push_back(Way::slices);
      Buffer& a = pass == Pass::inputGradient ? y : x;
      Buffer& b = pass == Pass::weightGradient ? y : w;
      Buffer out(pass == Pass::forward ? sizes.y : pass == Pass::inputGradient ? sizes.x : sizes.w);
      size_t bytes = 0;
      for (const Way way : ways) bytes = std::max(bytes, workspaceOf(way, p, pass));
      Buffer workspace(static_cast<int64_t>(bytes / 4));
      std::vector<std::vector<double>> times(ways.size());
      for (int i = 0; i < 15; ++i) {
        for (size_t way = 0; way < ways.size(); ++way) {
          const double start = seconds();
          runBy(ways[way], p, pass, a.data(), b.data(), nullptr, out.data(), workspace.data());
          times[way].push_back(seconds() - start);
        }
      }
      for (auto& each : times) {
        std::sort(each.begin(), each.end());
        std::printf(" %8.3f", each[7] * 1e3);
      }
      std::printf(" %-24s", voxgrad::cpu::modelledName(p, pass));
    }
    std::printf("\n");
  }
}

}  // namespace
}  // namespace voxgrad::test

int main(int argc, char** argv) {
  using namespace voxgrad::test;
  if (argc > 1 && std::strcmp(argv[1], "--compare") == 0) {
    // Winograd is called by name; what is reached by the choice is then direct.
    setenv("VOXGRAD_CONV", "direct", 0);
    compare(argc > 2 ? argv[2] : nullptr);
  } else {
    bench(argc > 1 ? argv[1] : nullptr);
  }
}
