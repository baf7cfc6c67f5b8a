#include "conv3d_task_sums.h"

namespace voxgrad::cpu {

TaskSums::TaskSums(WorkspaceCursor& cursor, int64_t tasks, int64_t vectors, int64_t lanes)
    : tasks_(tasks), vectors_(vectors), lanes_(lanes) {
  const int64_t channels = vectors * lanes;
  shifts_ = cursor.floats(tasks * channels);
  totals_ = reinterpret_cast<double*>(cursor.floats(4 * tasks * channels));
  voxels_ = reinterpret_cast<int64_t*>(cursor.floats(2 * tasks));
}

ChannelSums TaskSums::begin(int64_t task, int64_t vector, int64_t vectors) const {
  const int64_t at = task * vectors_ + vector;
  double* const totals = totals_ + 2 * at * lanes_;
  std::fill_n(totals, 2 * vectors * lanes_, 0.0);
  return {totals, shifts_ + at * lanes_, 0};
}

// Joins the tasks' means and sums of squared differences from them (Chan, Golub and LeVeque, "Updating
// formulae and a pairwise algorithm for computing sample variances", 1979), in order.
void TaskSums::merge(int64_t channels, float* moments) const {
  for (int64_t channel = 0; channel < channels; ++channel) {
    const int64_t vector = channel / lanes_, lane = channel % lanes_;
    double count = 0, mean = 0, squares = 0;
    for (int64_t task = 0; task < tasks_; ++task) {
      if (voxels_[task] == 0) continue;
      const int64_t at = task * vectors_ + vector;
      const double* const totals = totals_ + 2 * at * lanes_ + lane;
      const double own = static_cast<double>(voxels_[task]), shifted = totals[0] / own;
      const double apart = shifts_[at * lanes_ + lane] + shifted - mean, all = count + own;
      squares += totals[lanes_] - totals[0] * shifted + apart * apart * count * own / all;
      mean += apart * own / all;
      count = all;
    }
    const double variance = squares / count;
    moments[2 * channel] = static_cast<float>(mean);
    // A comparison that is false for NaN: what is not finite in the output shows.
    moments[2 * channel + 1] = variance < 0 ? 0.0f : static_cast<float>(variance);
  }
}

}  // namespace voxgrad::cpu
