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

template <typename T>
void launch_large(const T* a, const SymmetricBatch& shape, int64_t count, double* workspace, T* out,
                  void* stream) {
  const auto bytes = [](int64_t doubles) { return static_cast<size_t>(doubles) * sizeof(double); };
  device::launch_shared("symmetric_eigenvalues", symmetric_tridiagonal_kernel<T>, shape.batch,
                        kLargeBlock, bytes(symmetric_large_shared(shape.size)), stream, a, shape,
                        workspace);
  const int64_t groups = (count + kBisectBlock - 1) / kBisectBlock;
  device::launch_shared("symmetric_eigenvalues", symmetric_bisect_kernel<T>, shape.batch * groups,
                        kBisectBlock, bytes(2 * symmetric_pitch(shape.size)), stream, workspace,
                        shape.size, count, groups, out);
}

}  // namespace

template <typename T>
void symmetric_eigenvalues(const T* a, const SymmetricBatch& shape, int64_t count,
                           double* workspace, T* out, void* stream) {
  if (shape.batch * count == 0) return;
  if (shape.size <= 32) {
    launch<32>(a, shape, count, out, stream);
  } else if (shape.size <= 64) {
    launch<64>(a, shape, count, out, stream);
  } else if (shape.size <= kSharedSymmetric) {
    launch<128>(a, shape, count, out, stream);
  } else {
    launch_large(a, shape, count, workspace, out, stream);
  }
}

template void symmetric_eigenvalues<float>(const float*, const SymmetricBatch&, int64_t, double*,
                                           float*, void*);
template void symmetric_eigenvalues<double>(const double*, const SymmetricBatch&, int64_t, double*,
                                            double*, void*);

}  // namespace polarity::cuda
