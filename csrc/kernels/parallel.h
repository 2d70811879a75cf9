// CPU kernels know no thread pool: whoever links them provides this one function. In the
// extension it is torch's pool (csrc/torch/parallel.cpp), so torch.set_num_threads holds.
#pragma once

#include <cstdint>
#include <functional>

namespace polarity::cpu {

// Calls body(begin, end) over disjoint ranges that cover [0, count), `grain` items at least in
// each but the last. The ranges depend on the thread count: results must not depend on them.
void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

}  // namespace polarity::cpu
