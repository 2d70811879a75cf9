#pragma once

#include <cstring>

#include "../device/portability.cuh"
#include "../device/reduce.cuh"
#include "../device/scale.h"
#include "symmetric_eigenvalues.h"

namespace polarity {

constexpr int kLargeBlock = 256;  // threads, for a matrix in global memory
constexpr int kLargeWarps = kLargeBlock / 32;
constexpr int kStrip = 4;         // rows that a warp takes together
constexpr int kBisectBlock = 64;  // eigenvalues of one block

POLARITY_HOST_DEVICE int64_t strips(int64_t rows) { return (rows + kStrip - 1) / kStrip; }

// Doubles of shared memory: d, v, w and u, and a product of each warp.
POLARITY_HOST_DEVICE int64_t symmetric_large_shared(int64_t size) {
  return (4 + kLargeWarps) * symmetric_pitch(size);
}

// Doubles of shared memory: the packed triangle, and w, d and e2 beside it.
POLARITY_HOST_DEVICE int64_t symmetric_shared(int64_t size) { return triangle(size) + 3 * size; }

// Reads the lower triangle of one matrix, scaled to a largest element near one; returns what takes
// the eigenvalues back, NaN where an element is not finite.
template <int kThreads, typename T>
POLARITY_DEVICE double load_symmetric(const T* a, const SymmetricBatch& shape, double* packed) {
  const int thread = static_cast<int>(threadIdx.x);
  // Neighbouring threads read neighbouring addresses, whichever dimension that is.
  const bool along_rows = shape.stride_col <= shape.stride_row;
  double largest = 0.0, poison = 0.0;
  for (int64_t outer = 0; outer < shape.size; ++outer) {
    const int64_t row = along_rows ? outer : thread;
    const int64_t column = along_rows ? thread : outer;
    if (row < shape.size && column <= row) {
      const double x = static_cast<double>(a[row * shape.stride_row + column * shape.stride_col]);
      packed[triangle(row) + column] = x;
      largest = fabs(x) > largest ? fabs(x) : largest;
      poison += x * 0.0;
    }
  }
  poison = device::block_sum<kThreads>(poison);
  const Scale scale = scale_to_one(device::block_max<kThreads>(largest));
  for (int64_t i = thread; i < triangle(shape.size); i += kThreads) {
    packed[i] = poison == 0.0 ? packed[i] * scale.factor : 0.0;
  }
  device::sync_block();
  return scale.inverse + poison;
}

// The square of an element beside the diagonal, never zero: what 2^-60 moves the eigenvalues by is
// below rounding, and determinants of which no two in a row vanish are counted without divisions.
POLARITY_DEVICE double coupling(double square) { return square > 0x1p-120 ? square : 0x1p-120; }

// Householder reflections from the last row up. Thread k owns row k of the matrix and element k of
// every vector. Rows of a packed triangle begin in different banks of shared memory (the triangular
// numbers below a power of two differ modulo it), so neither way through it has conflicts.
template <int kThreads>
POLARITY_DEVICE void tridiagonalise(double* packed, int64_t size, double* w, double* d,
                                    double* e2) {
  const int64_t k = threadIdx.x;
  for (int64_t i = size - 1; i > 1; --i) {
    double* v = packed + triangle(i);
    const double mine = k < i ? v[k] : 0.0;
    const double corner = v[i - 1];
    const double square = device::block_sum<kThreads>(mine * mine);
    const double norm = sqrt(square);
    // The row becomes v of the reflection 1 - v v^T / h that leaves it one element.
    const double element = k == i - 1 ? corner + (corner < 0.0 ? -norm : norm) : mine;
    const double inverse = square > kTinySquare ? 1.0 / (square + fabs(corner) * norm) : 0.0;
    if (k == i - 1) {
      e2[k] = coupling(square);
      v[k] = element;
    }
    device::sync_block();
    double y = 0.0;
    if (k < i) {
      for (int64_t c = 0; c < i; ++c) {
        y += packed[c <= k ? triangle(k) + c : triangle(c) + k] * v[c];
      }
    }
    const double dot = device::block_sum<kThreads>(element * y);
    // A - v w^T - w v^T with w = y / h - v (v . y) / (2 h^2)
    const double w_mine = inverse * (y - 0.5 * dot * inverse * element);
    if (k < i) w[k] = w_mine;
    device::sync_block();
    if (k < i) {
      for (int64_t c = 0; c <= k; ++c) {
        packed[triangle(k) + c] -= element * w[c] + w_mine * v[c];
      }
    }
    device::sync_block();
  }
  if (k < size) d[k] = packed[triangle(k) + k];
  if (k == 0) {
    e2[size - 1] = 0.0;
    if (size > 1) e2[0] = coupling(packed[1] * packed[1]);
  }
  device::sync_block();
}

POLARITY_DEVICE uint64_t sign_bit(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits >> 63;
}

// Eigenvalues of the tridiagonal matrix that are less than x: how often the determinants of the
// leading blocks of A - x change sign. The next one waits for a single multiply-add of the one
// before, where the pivots, their quotients, would wait for a division. Eight steps change their
// size by less than 2^500 either way. Where one is zero, its neighbours have opposite signs, so
// that its own does not matter.
POLARITY_DEVICE int64_t eigenvalues_below(const double* d, const double* e2, int64_t size,
                                          double x) {
  uint64_t below = 0;
  double before = 0.0, last = 1.0, square = 0.0;
  for (int64_t begin = 0; begin < size; begin += 8) {
    const double larger = fabs(last) > fabs(before) ? fabs(last) : fabs(before);
    const double factor = scale_to_one(larger).factor;
    last *= factor;
    before *= factor;
    const int64_t end = begin + 8 < size ? begin + 8 : size;
#pragma unroll 8
    for (int64_t i = begin; i < end; ++i) {
      const double next = (d[i] - x) * last - square * before;
      below += sign_bit(next) ^ sign_bit(last);
      before = last;
      last = next;
      square = e2[i];
    }
  }
  return static_cast<int64_t>(below);
}

// A radius around zero that all eigenvalues are within (Gershgorin).
template <int kThreads>
POLARITY_DEVICE double spectral_bound(const double* d, const double* e2, int64_t size) {
  double radius = 0.0;
  for (int64_t k = threadIdx.x; k < size; k += kThreads) {
    const double reach = fabs(d[k]) + sqrt(e2[k]) + (k > 0 ? sqrt(e2[k - 1]) : 0.0);
    radius = reach > radius ? reach : radius;
  }
  return device::block_max<kThreads>(radius);
}

// Eigenvalue k of a tridiagonal matrix, from above. Whoever looks for another one begins with the
// same interval, so that the values are in order whatever is counted within rounding.
POLARITY_DEVICE double bisect(const double* d, const double* e2, int64_t size, double bound,
                              int64_t k) {
  double low = -bound, high = bound;
  for (int step = 0; step < 56; ++step) {  // to bound * 2^-55
    const double middle = 0.5 * (low + high);
    if (size - eigenvalues_below(d, e2, size, middle) > k) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return 0.5 * (low + high);
}

// One block for each matrix, in shared memory; kThreads >= size. Thread k finds eigenvalue k.
template <int kThreads, typename T>
POLARITY_GLOBAL void symmetric_eigenvalues_kernel(const T* a, SymmetricBatch shape, int64_t count,
                                                  T* out) {
  DYN_SHARED(double, packed);
  const int64_t size = shape.size, b = blockIdx.x;
  double* w = packed + triangle(size);
  double* d = w + size;
  double* e2 = d + size;
  const double back = load_symmetric<kThreads>(a + b * shape.stride_batch, shape, packed);
  tridiagonalise<kThreads>(packed, size, w, d, e2);
  const double bound = spectral_bound<kThreads>(d, e2, size);
  const int64_t k = threadIdx.x;
  if (k < count) out[b * count + k] = static_cast<T>(bisect(d, e2, size, bound, k) * back);
}

// Beyond what fits in shared memory a matrix lies in global memory, `pitch` from row to row, as its
// elements below the diagonal; d, in shared memory, is the diagonal.

// Reads one matrix, as load_symmetric does.
template <typename T>
POLARITY_DEVICE double load_large(const T* a, const SymmetricBatch& shape, double* matrix,
                                  int64_t pitch, double* d) {
  const int64_t thread = threadIdx.x, warp = thread / 32, size = shape.size;
  // A warp reads along the dimension whose neighbours are neighbours in memory.
  const bool along_rows = shape.stride_col <= shape.stride_row;
  const int64_t outer_stride = along_rows ? shape.stride_row : shape.stride_col;
  const int64_t inner_stride = along_rows ? shape.stride_col : shape.stride_row;
  const auto each = [&](auto visit) {
    for (int64_t outer = warp; outer < size; outer += kLargeWarps) {
      const int64_t begin = along_rows ? 0 : outer, end = along_rows ? outer + 1 : size;
      for (int64_t inner = begin + device::lane(); inner < end; inner += 32) {
        visit(along_rows ? outer : inner, along_rows ? inner : outer,
              static_cast<double>(a[outer * outer_stride + inner * inner_stride]));
      }
    }
  };
  // Above the diagonal, and in rows that the last strip has beyond the matrix.
  for (int64_t i = thread; i < strips(size) * kStrip * pitch; i += kLargeBlock) matrix[i] = 0.0;
  double largest = 0.0, poison = 0.0;
  each([&](int64_t, int64_t, double x) {
    largest = fabs(x) > largest ? fabs(x) : largest;
    poison += x * 0.0;
  });
  poison = device::block_sum<kLargeBlock>(poison);
  const Scale scale = scale_to_one(device::block_max<kLargeBlock>(largest));
  each([&](int64_t row, int64_t column, double x) {
    double& to = row == column ? d[row] : matrix[row * pitch + column];
    to = poison == 0.0 ? x * scale.factor : 0.0;
  });
  device::sync_block();
  return scale.inverse + poison;
}

struct alignas(16) Pair {
  double x, y;
};

POLARITY_DEVICE Pair& pair_at(double* address) { return *reinterpret_cast<Pair*>(address); }
POLARITY_DEVICE Pair pair_at(const double* address) {
  return *reinterpret_cast<const Pair*>(address);
}

// One pass over the first `rows` rows: takes v w^T + w v^T off them and multiplies what is left,
// below the diagonal and mirrored above it, by u, which is zero from element `rows` on. A warp
// takes a strip of rows at a time and adds to a product of its own, in `partial`; the strips are
// dealt so that all get as much. Every second pass goes the other way, for what is still in the
// cache.
POLARITY_DEVICE void update_and_multiply(double* matrix, int pitch, int rows, const double* v,
                                         const double* w, const double* u, double* partial) {
  const int warp = static_cast<int>(threadIdx.x / 32), lane = device::lane();
  const int count = static_cast<int>(strips(rows));
  double* mine = partial + warp * pitch;
  for (int turn = 0; turn * kLargeWarps < count; ++turn) {
    const int dealt = turn * kLargeWarps + (turn % 2 == 0 ? warp : kLargeWarps - 1 - warp);
    if (dealt >= count) continue;
    const int first = (rows % 2 == 0 ? dealt : count - 1 - dealt) * kStrip;
    double sum[kStrip] = {};
#pragma unroll 1
    for (int c = 2 * lane; c < first + kStrip; c += 64) {
      Pair a[kStrip];
#pragma unroll
      for (int r = 0; r < kStrip; ++r) a[r] = pair_at(matrix + (first + r) * pitch + c);
      const Pair vc = pair_at(v + c), wc = pair_at(w + c), uc = pair_at(u + c);
      Pair column = pair_at(mine + c);
#pragma unroll
      for (int r = 0; r < kStrip; ++r) {
        const int row = first + r;
        const double vr = v[row], wr = w[row], ur = u[row];
        a[r].x = c < row ? a[r].x - (vr * wc.x + wr * vc.x) : 0.0;
        a[r].y = c + 1 < row ? a[r].y - (vr * wc.y + wr * vc.y) : 0.0;
        sum[r] += a[r].x * uc.x + a[r].y * uc.y;
        column.x += a[r].x * ur;
        column.y += a[r].y * ur;
        pair_at(matrix + row * pitch + c) = a[r];
      }
      pair_at(mine + c) = column;
    }
    device::sync_warp();
#pragma unroll
    for (int r = 0; r < kStrip; ++r) {
      const double total = device::warp_sum(sum[r]);
      if (lane == 0) mine[first + r] += total;
    }
    device::sync_warp();
  }
}

// tridiagonalise, with the update of one reflection and the product for the next in one pass.
// Returns e2, which takes the place of v from its end as v gets shorter.
POLARITY_DEVICE double* tridiagonalise_large(double* matrix, int64_t pitch, int64_t size,
                                             double* shared, double* d) {
  const int64_t thread = threadIdx.x;
  double *v = shared, *w = v + pitch, *u = w + pitch, *partial = u + pitch;
  for (int64_t k = thread; k < (3 + kLargeWarps) * pitch; k += kLargeBlock) shared[k] = 0.0;
  device::sync_block();
  for (int64_t i = size - 1; i > 0; --i) {
    double square = 0.0;
    for (int64_t k = thread; k <= i; k += kLargeBlock) {
      const double x = k < i ? matrix[i * pitch + k] - (v[i] * w[k] + w[i] * v[k]) : 0.0;
      d[k] -= 2.0 * v[k] * w[k];
      u[k] = x;
      square += x * x;
    }
    square = device::block_sum<kLargeBlock>(square);
    const double norm = sqrt(square), corner = u[i - 1];
    device::sync_block();
    if (thread == 0) {
      u[i - 1] = corner + (corner < 0.0 ? -norm : norm);
      v[i] = coupling(square);
    }
    if (i == 1) break;
    const double inverse = square > kTinySquare ? 1.0 / (square + fabs(corner) * norm) : 0.0;
    device::sync_block();
    update_and_multiply(matrix, static_cast<int>(pitch), static_cast<int>(i), v, w, u, partial);
    device::sync_block();
    double dot = 0.0;
    for (int64_t k = thread; k < i; k += kLargeBlock) {
      double y = d[k] * u[k];
      for (int64_t part = k; part < kLargeWarps * pitch; part += pitch) {
        y += partial[part];
        partial[part] = 0.0;
      }
      w[k] = y;
      dot += u[k] * y;
    }
    dot = device::block_sum<kLargeBlock>(dot);
    for (int64_t k = thread; k < i; k += kLargeBlock) {
      v[k] = u[k];
      w[k] = inverse * (w[k] - 0.5 * dot * inverse * u[k]);
    }
    device::sync_block();
  }
  device::sync_block();
  return v + 1;
}

// One block for each matrix, in global memory. Leaves d, e2 and what takes eigenvalues back behind
// the matrix.
template <typename T>
POLARITY_GLOBAL void symmetric_tridiagonal_kernel(const T* a, SymmetricBatch shape,
                                                  double* workspace) {
  DYN_SHARED(double, d);
  const int64_t b = blockIdx.x, size = shape.size, pitch = symmetric_pitch(size);
  double* matrix = workspace + b * symmetric_doubles(size);
  const double back = load_large(a + b * shape.stride_batch, shape, matrix, pitch, d);
  const double* e2 = tridiagonalise_large(matrix, pitch, size, d + pitch, d);
  double* result = matrix + pitch * pitch;
  for (int64_t k = threadIdx.x; k < size; k += kLargeBlock) {
    result[k] = d[k];
    result[pitch + k] = e2[k];
  }
  if (threadIdx.x == 0) result[pitch + size] = back;
}

// `groups` blocks for each matrix, a thread for each eigenvalue.
template <typename T>
POLARITY_GLOBAL void symmetric_bisect_kernel(const double* workspace, int64_t size, int64_t count,
                                             int64_t groups, T* out) {
  DYN_SHARED(double, d);
  const int64_t b = blockIdx.x / groups, pitch = symmetric_pitch(size);
  const double* result = workspace + b * symmetric_doubles(size) + pitch * pitch;
  double* e2 = d + pitch;
  for (int64_t k = threadIdx.x; k < size; k += kBisectBlock) {
    d[k] = result[k];
    e2[k] = result[pitch + k];
  }
  device::sync_block();
  const double bound = spectral_bound<kBisectBlock>(d, e2, size), back = result[pitch + size];
  const int64_t k = blockIdx.x % groups * kBisectBlock + threadIdx.x;
  if (k < count) out[b * count + k] = static_cast<T>(bisect(d, e2, size, bound, k) * back);
}

}  // namespace polarity
