#include <cassert>
#include <limits>

#include "../device/launch.cuh"
#include "mlp_tangents.cuh"

namespace polarity::cuda {
namespace {

// The most probes for a block: more of them read the weights less often.
template <typename T>
int probes_that_fit(const MlpChain<T>& chain) {
  for (const int probes : {32, 16, 8}) {
    const bool needed = probes == 8 || chain.probes > probes / 2;
    if (needed && MlpShared::of(chain, probes).bytes <= static_cast<int64_t>(device::kMaxShared)) {
      return probes;
    }
  }
  return 0;
}

}  // namespace

template <typename T>
bool mlp_tangents_fits(const MlpChain<T>& chain) {
  return probes_that_fit(chain) > 0 &&
         chain.width[chain.layers] < std::numeric_limits<int>::max() - kMlpUnits;
}

template <typename T>
void mlp_tangents(const MlpChain<T>& chain, void* stream) {
  if (chain.probes * chain.batch * chain.width[chain.layers] == 0) return;
  const int probes = probes_that_fit(chain);
  assert(probes > 0);  // the caller has asked mlp_tangents_fits
  auto* kernel = probes == 32   ? mlp_tangents_kernel<T, 32>
                 : probes == 16 ? mlp_tangents_kernel<T, 16>
                                : mlp_tangents_kernel<T, 8>;
  const int64_t blocks = (chain.probes + probes - 1) / probes * chain.batch;
  const MlpShared shared = MlpShared::of(chain, probes);
  device::launch_shared("mlp_tangents", kernel, blocks, kMlpBlock,
                        static_cast<size_t>(shared.bytes), stream, chain, shared);
}

template bool mlp_tangents_fits<float>(const MlpChain<float>&);
template bool mlp_tangents_fits<double>(const MlpChain<double>&);
template void mlp_tangents<float>(const MlpChain<float>&, void*);
template void mlp_tangents<double>(const MlpChain<double>&, void*);

}  // namespace polarity::cuda
