#include "../device/launch.cuh"
#include "symmetric_eigenvalues.cuh"

namespace polarity::cuda {
namespace {

template <int kThreads, typename T>
void launch(const T* a, const SymmetricBatch& shape, int64_t count, T* out, void* stream) {
  const size_t shared = static_cast<size_t>(symmetric_shared(shape.size)) * sizeof(double);
  device::launch_shared("symmetric_eigenvalues", symmetric_eigenvalues_kernel<kThreads, T>,
                        shape.batch, kThreads, shared, stream, a, shape, count, out);
}

}  // namespace

template <typename T>
void symmetric_eigenvalues(const T* a, const SymmetricBatch& shape, int64_t count, T* out,
                           void* stream) {
  if (shape.batch * count == 0) return;
  if (shape.size <= 32) {
    launch<32>(a, shape, count, out, stream);
  } else if (shape.size <= 64) {
    launch<64>(a, shape, count, out, stream);
  } else {
    launch<128>(a, shape, count, out, stream);
  }
}

template void symmetric_eigenvalues<float>(const float*, const SymmetricBatch&, int64_t, float*,
                                           void*);
template void symmetric_eigenvalues<double>(const double*, const SymmetricBatch&, int64_t, double*,
                                            void*);

}  // namespace polarity::cuda
