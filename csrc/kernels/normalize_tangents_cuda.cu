#include "../device/launch.cuh"
#include "normalize_tangents.cuh"

namespace polarity::cuda {

template <typename T>
void normalize_tangents(const T* t, const T* xhat, const T* r, bool center, T* out,
                        const GroupLayout& layout, void* stream) {
  if (layout.probes * layout.outer * layout.sample() == 0) return;
  const auto blocks = [](int64_t items) {
    return std::min<int64_t>(items,
                             int64_t{1} << 20);  // each takes more than one where there are more
  };
  using Quad = device::Quad<T>;
  if (layout.rows > 1) {
    const int64_t tile = std::clamp<int64_t>(kNormalizeColumns / layout.run, 1, layout.inner);
    const int64_t items = (layout.inner + tile - 1) / tile * layout.outer * layout.probes;
    const int64_t stride = layout.inner * layout.run;
    const bool quads = (tile * layout.run | stride | layout.t_probe) % 4 == 0 &&
                       device::is_aligned<Quad>(t, xhat, out);
    constexpr int kLarge = 512;
    const bool large = layout.rows > 256;  // else a few rows for each thread
    auto* kernel = large ? (quads ? normalize_columns_kernel<kLarge, T, Quad>
                                  : normalize_columns_kernel<kLarge, T, T>)
                         : (quads ? normalize_columns_kernel<kNormalizeBlock, T, Quad>
                                  : normalize_columns_kernel<kNormalizeBlock, T, T>);
    device::launch("normalize_tangents", kernel, blocks(items), large ? kLarge : kNormalizeBlock,
                   stream, t, xhat, r, center, out, layout, tile);
    return;
  }
  const bool quads =
      (layout.run | layout.t_probe) % 4 == 0 && device::is_aligned<Quad>(t, xhat, out);
  constexpr int64_t kWarpRun = 1024;  // up to here a warp holds enough loads in flight
  const bool warps = layout.run <= kWarpRun;
  auto* kernel =
      warps ? (quads ? normalize_runs_kernel<T, Quad, 32> : normalize_runs_kernel<T, T, 32>)
            : (quads ? normalize_runs_kernel<T, Quad, kNormalizeBlock>
                     : normalize_runs_kernel<T, T, kNormalizeBlock>);
  const int64_t per_block = warps ? kNormalizeBlock / 32 : 1;
  const int64_t items = layout.outer * layout.inner * layout.probes;
  device::launch("normalize_tangents", kernel, blocks((items + per_block - 1) / per_block),
                 kNormalizeBlock, stream, t, xhat, r, center, out, layout);
}

template void normalize_tangents<float>(const float*, const float*, const float*, bool, float*,
                                        const GroupLayout&, void*);
template void normalize_tangents<double>(const double*, const double*, const double*, bool, double*,
                                         const GroupLayout&, void*);

}  // namespace polarity::cuda
