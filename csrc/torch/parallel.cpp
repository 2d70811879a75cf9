// The thread pool of the CPU kernels is torch's.
#include "../kernels/parallel.h"

#include <torch/csrc/stable/ops.h>

namespace polarity::cpu {

void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (count <= 0) return;
  torch::stable::parallel_for(0, count, grain, body);
}

}  // namespace polarity::cpu
