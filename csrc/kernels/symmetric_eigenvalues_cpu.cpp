#include "symmetric_eigenvalues.h"

#include <algorithm>
#include <functional>

#include "../device/scale.h"
#include "parallel.h"
#include "tridiagonal_lanes.h"

namespace polarity::cpu {
namespace {

// Brings every lane's largest element near one; a lane that is not finite becomes zero. Returns
// what takes its eigenvalues back: a power of two, or NaN.
template <Isa isa>
POLARITY_INLINE Lanes<isa> normalise(Lanes<isa>* packed, int64_t count) {
  using V = Lanes<isa>;
  V largest{}, poison{};
  for (int64_t i = 0; i < count; ++i) {
    const V size = absolute<isa>(packed[i]);
    largest = size > largest ? size : largest;
    poison += packed[i] * 0.0;
  }
  V factor, inverse;
  for (int lane = 0; lane < kLanes<isa>; ++lane) {
    const Scale scale = scale_to_one(largest[lane]);
    factor[lane] = scale.factor;
    inverse[lane] = scale.inverse;
  }
  for (int64_t i = 0; i < count; ++i) packed[i] = poison == 0.0 ? packed[i] * factor : V{};
  return inverse + poison;
}

// As many matrices as `vectors` vectors have lanes, the last one again in the lanes beyond.
template <Isa isa, int vectors, typename T>
POLARITY_INLINE void solve_together(const T* a, const SymmetricBatch& shape, int64_t count,
                                    int64_t matrices, LaneMemory& memory, T* out) {
  using V = Lanes<isa>;
  const int64_t size = shape.size;
  V* const scratch = memory.get<isa>();
  V* const packed = scratch + 2 * size;
  V *d[vectors], *e2[vectors], back[vectors], failed[vectors];
  const auto valid = [&](int v) {
    return std::min<int64_t>(kLanes<isa>, matrices - v * kLanes<isa>);
  };
  for (int v = 0; v < vectors; ++v) {
    d[v] = packed + triangle(size) + 2 * v * size;
    e2[v] = d[v] + size;
    pack<isa>(a + v * kLanes<isa> * shape.stride_batch, shape, valid(v), packed);
    back[v] = normalise<isa>(packed, triangle(size));
    tridiagonalise<isa>(packed, size, d[v], e2[v], scratch);
  }
  tridiagonal_eigenvalues<isa, vectors>(d, e2, size, failed);
  double* const sorted = reinterpret_cast<double*>(packed);
  for (int v = 0; v < vectors; ++v) {
    const V finish = back[v] + failed[v];
    for (int64_t lane = 0; lane < valid(v); ++lane) {
      for (int64_t i = 0; i < size; ++i) sorted[i] = d[v][i][lane];
      std::sort(sorted, sorted + size, std::greater<double>());
      T* const values = out + (v * kLanes<isa> + lane) * count;
      for (int64_t i = 0; i < count; ++i) values[i] = static_cast<T>(sorted[i] * finish[lane]);
    }
  }
}

template <Isa isa, typename T>
POLARITY_INLINE void solve(const T* a, const SymmetricBatch& shape, int64_t count, int64_t begin,
                           int64_t end, LaneMemory& memory, T* out) {
  int64_t b = begin;
  for (; b + kLanes<isa> < end; b += 2 * kLanes<isa>) {
    solve_together<isa, 2>(a + b * shape.stride_batch, shape, count, end - b, memory,
                           out + b * count);
  }
  if (b < end) {
    solve_together<isa, 1>(a + b * shape.stride_batch, shape, count, end - b, memory,
                           out + b * count);
  }
}

template <Isa isa>
POLARITY_INLINE void solve_float_body(const float* a, const SymmetricBatch& shape, int64_t count,
                                      int64_t begin, int64_t end, LaneMemory& memory, float* out) {
  solve<isa>(a, shape, count, begin, end, memory, out);
}
template <Isa isa>
POLARITY_INLINE void solve_double_body(const double* a, const SymmetricBatch& shape, int64_t count,
                                       int64_t begin, int64_t end, LaneMemory& memory,
                                       double* out) {
  solve<isa>(a, shape, count, begin, end, memory, out);
}
POLARITY_ISA_VARIANTS(solve_float,
                      (const float* a, const SymmetricBatch& shape, int64_t count, int64_t begin,
                       int64_t end, LaneMemory& memory, float* out),
                      (a, shape, count, begin, end, memory, out))
POLARITY_ISA_VARIANTS(solve_double,
                      (const double* a, const SymmetricBatch& shape, int64_t count, int64_t begin,
                       int64_t end, LaneMemory& memory, double* out),
                      (a, shape, count, begin, end, memory, out))

void run(const float* a, const SymmetricBatch& shape, int64_t count, int64_t begin, int64_t end,
         LaneMemory& memory, float* out) {
  solve_float(a, shape, count, begin, end, memory, out);
}
void run(const double* a, const SymmetricBatch& shape, int64_t count, int64_t begin, int64_t end,
         LaneMemory& memory, double* out) {
  solve_double(a, shape, count, begin, end, memory, out);
}

}  // namespace

template <typename T>
void symmetric_eigenvalues(const T* a, const SymmetricBatch& shape, int64_t count, T* out) {
  if (shape.batch * count == 0) return;
  parallel_for(shape.batch, kLaneGrain, [&](int64_t begin, int64_t end) {
    LaneMemory memory(triangle(shape.size) + 6 * shape.size);
    run(a, shape, count, begin, end, memory, out);
  });
}

template void symmetric_eigenvalues<float>(const float*, const SymmetricBatch&, int64_t, float*);
template void symmetric_eigenvalues<double>(const double*, const SymmetricBatch&, int64_t, double*);

}  // namespace polarity::cpu
