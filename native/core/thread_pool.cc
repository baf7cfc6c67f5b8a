#include "thread_pool.h"

#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
#endif

namespace voxgrad {
namespace {

constexpr int kMaxThreads = 1024;
// About 20 microseconds: longer than the gap between two kernels of a plan, shorter than anyone notices.
constexpr int kSpins = 1000;
thread_local bool insideTask = false;

void pauseBriefly() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// CPUs granted by a "quota period" pair, or 0 when there is no limit.
int cpusOfQuota(double quota, double period) {
  if (quota <= 0 || period <= 0) return 0;
  return std::max(1, static_cast<int>((quota + period - 1) / period));
}

// cgroup v2: the tightest cpu.max on the way from this process's group to the root.
int quotaVersion2() {
  std::ifstream groups("/proc/self/cgroup");
  std::string path;
  for (std::string line; std::getline(groups, line);) {
    if (line.rfind("0::", 0) == 0) path = line.substr(3);
  }
  int tightest = 0;
  for (;;) {
    std::ifstream file("/sys/fs/cgroup" + path + "/cpu.max");
    std::string quota;
    double period = 0;
    if (file >> quota >> period && quota != "max") {
      const int cpus = cpusOfQuota(std::atof(quota.c_str()), period);
      if (cpus > 0) tightest = tightest > 0 ? std::min(tightest, cpus) : cpus;
    }
    if (path.empty()) return tightest;
    path.erase(path.find_last_of('/') == std::string::npos ? 0 : path.find_last_of('/'));
  }
}

int quotaVersion1() {
  for (const char* group : {"/sys/fs/cgroup/cpu/", "/sys/fs/cgroup/cpu,cpuacct/"}) {
    double quota = 0, period = 0;
    if (std::ifstream(std::string(group) + "cpu.cfs_quota_us") >> quota &&
        std::ifstream(std::string(group) + "cpu.cfs_period_us") >> period) {
      return cpusOfQuota(quota, period);
    }
  }
  return 0;
}

int chooseSize() {
  if (const char* text = std::getenv("VOXGRAD_THREADS")) {
    const int asked = std::atoi(text);
    if (asked > 0) return std::min(asked, kMaxThreads);
  }
  int cpus = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cpus = CPU_COUNT(&set);
#endif
  for (const int quota : {quotaVersion2(), quotaVersion1()}) {
    if (quota > 0) cpus = std::min(cpus, quota);
  }
  return std::clamp(cpus, 1, kMaxThreads);
}

#if defined(__aarch64__)
uint64_t readMode() {
  uint64_t mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
void writeMode(uint64_t mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
constexpr uint64_t kFlush = uint64_t{1} << 24;
#elif defined(__x86_64__) || defined(__i386__)
uint64_t readMode() { return _mm_getcsr(); }
void writeMode(uint64_t mode) { _mm_setcsr(static_cast<unsigned>(mode)); }
constexpr uint64_t kFlush = 0x8040;
#else
uint64_t readMode() { return 0; }
void writeMode(uint64_t) {}
constexpr uint64_t kFlush = 0;
#endif

}  // namespace

FlushDenormals::FlushDenormals() : saved_(readMode()) { writeMode(saved_ | kFlush); }
FlushDenormals::~FlushDenormals() { writeMode(saved_); }

ThreadPool& ThreadPool::shared() {
  // Leaked on purpose: joining workers while the process tears down could wait on a thread that is gone.
  static ThreadPool* pool = new ThreadPool(chooseSize());
  return *pool;
}

ThreadPool::ThreadPool(int size) : size_(size) {
  for (int i = 0; i + 1 < size; ++i) std::thread([this, i] { workerLoop(i); }).detach();
}

void ThreadPool::runErased(int64_t tasks, Invoke invoke, const void* context) {
  FlushDenormals flush;
  if (size_ == 1 || tasks <= 1 || insideTask) {
    for (int64_t i = 0; i < tasks; ++i) invoke(context, i);
    return;
  }
  std::lock_guard<std::mutex> onlyJob(callers_);
  const int helpers = static_cast<int>(std::min<int64_t>(size_ - 1, tasks - 1));
  invoke_ = invoke;
  context_ = context;
  error_ = nullptr;
  shares_.divide(tasks, helpers + 1);
  busy_.store(helpers, std::memory_order_relaxed);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t job = (ticket_.load(std::memory_order_relaxed) >> 16) + 1;
    ticket_.store(job << 16 | static_cast<uint64_t>(helpers), std::memory_order_release);
  }
  wake_.notify_all();
  work(0);
  for (int i = 0; i < kSpins && busy_.load(std::memory_order_acquire) > 0; ++i) pauseBriefly();
  if (busy_.load(std::memory_order_acquire) > 0) {
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return busy_.load(std::memory_order_acquire) == 0; });
  }
  if (error_) {
    std::exception_ptr error;
    std::swap(error, error_);
    std::rethrow_exception(error);
  }
}

void ThreadPool::work(int64_t worker) {
  insideTask = true;
  shares_.work(worker, [this](int64_t task) {
    try {
      invoke_(context_, task);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
      shares_.drop();
    }
  });
  insideTask = false;
}

uint64_t ThreadPool::awaitTicket(uint64_t seen) {
  for (int i = 0; i < kSpins; ++i) {
    const uint64_t ticket = ticket_.load(std::memory_order_acquire);
    if (ticket != seen) return ticket;
    pauseBriefly();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  wake_.wait(lock, [&] { return ticket_.load(std::memory_order_acquire) != seen; });
  return ticket_.load(std::memory_order_acquire);
}

void ThreadPool::workerLoop(int index) {
  FlushDenormals flush;
  for (uint64_t seen = 0;;) {
    seen = awaitTicket(seen);
    if (index >= static_cast<int>(seen & 0xffff)) continue;
    work(index + 1);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      std::lock_guard<std::mutex> lock(mutex_);
      done_.notify_one();
    }
  }
}

}  // namespace voxgrad
