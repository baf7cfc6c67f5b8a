// Compares divisions by multiplication with those of the processor, and prints how many differ.
#include <cstdio>
#include <vector>

#include "../../native/cuda/index.h"

using voxgrad::cuda::Divisor;

static int wrong = 0;

static void compare(const Divisor& divisor, int64_t n, int64_t by) {
  int64_t quotient = n;
  const int64_t rest = divisor.split(&quotient);
  if (quotient == n / by && rest == n % by && divisor.remainder(n) == n % by) return;
  if (wrong++ < 5) std::printf("%lld / %lld gave %lld\n", (long long)n, (long long)by, (long long)quotient);
}

int main() {
  // Powers of two and their neighbours, where rounding goes wrong first, and small numbers.
  std::vector<int64_t> numbers;
  for (int64_t small = 1; small < 300; small++) numbers.push_back(small);
  for (int power = 9; power <= 40; power++)
    for (int64_t near = -2; near <= 2; near++) numbers.push_back((int64_t{1} << power) + near);
  for (int64_t by : numbers) {
    const Divisor divisor(by);
    compare(divisor, 0, by);
    for (int64_t n : numbers) {
      compare(divisor, n, by);
      for (int64_t near = -1; near <= 1; near++) compare(divisor, n / by * by + by + near, by);
    }
  }
  std::printf("%d wrong\n", wrong);
}
