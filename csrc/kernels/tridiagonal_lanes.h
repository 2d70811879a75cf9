// Eigenvalues of symmetric matrices, one in each lane: Householder reflections to tridiagonal form,
// then implicit QL steps without square roots (Pal, Walker and Kahan; Parlett, "The Symmetric
// Eigenvalue Problem", section 8.15).
#pragma once

#include <algorithm>
#include <limits>

#include "../device/scale.h"
#include "lanes.h"

namespace polarity::cpu {

// Rows first .. first + rows of the pending update A -= u w^T + w u^T, and of y = A v with the
// result. Every element is loaded and stored once for both.
template <Isa isa, int rows>
POLARITY_INLINE void update_and_multiply(Lanes<isa>* a, int64_t first, const Lanes<isa>* u,
                                         const Lanes<isa>* w, const Lanes<isa>* v, Lanes<isa>* y) {
  Lanes<isa>* row[rows];
  Lanes<isa> u_row[rows], w_row[rows], v_row[rows], sum[rows];
  for (int r = 0; r < rows; ++r) {
    row[r] = a + triangle(first + r);
    u_row[r] = u[first + r];
    w_row[r] = w[first + r];
    v_row[r] = v[first + r];
    sum[r] = Lanes<isa>{};
  }
  for (int64_t column = 0; column < first; ++column) {
    Lanes<isa> below = y[column];
    for (int r = 0; r < rows; ++r) {
      const Lanes<isa> x = row[r][column] - u_row[r] * w[column] - w_row[r] * u[column];
      row[r][column] = x;
      sum[r] += x * v[column];
      below += x * v_row[r];
    }
    y[column] = below;
  }
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c <= r; ++c) {
      const Lanes<isa> x = row[r][first + c] - u_row[r] * w_row[c] - w_row[r] * u_row[c];
      row[r][first + c] = x;
      sum[r] += x * v_row[c];
      if (c < r) sum[c] += x * v_row[r];
    }
  }
  for (int r = 0; r < rows; ++r) y[first + r] = sum[r];
}

// packed: lower triangles, overwritten. d[i] becomes the diagonal, e2[i] the square of the
// off-diagonal element between i and i + 1; e2[size - 1] = 0. `scratch` has room for 2 size
// vectors.
template <Isa isa>
POLARITY_INLINE void tridiagonalise(Lanes<isa>* packed, int64_t size, Lanes<isa>* d, Lanes<isa>* e2,
                                    Lanes<isa>* scratch) {
  constexpr int kRows = isa == Isa::avx512 ? 4 : 2;  // what the registers hold
  using V = Lanes<isa>;
  V *w = scratch, *y = scratch + size;
  std::fill_n(w, size, V{});
  const V* u = w;  // nothing to update before the first reflection
  for (int64_t i = size - 1; i >= 0; --i) {
    V* row = packed + triangle(i);
    V tail{};
    for (int64_t column = 0; column <= i; ++column) {
      row[column] -= u[i] * w[column] + w[i] * u[column];
      if (column < i - 1) tail += row[column] * row[column];
    }
    d[i] = row[i];
    if (i == 0) break;
    const V corner = row[i - 1];
    const V square = tail + corner * corner;
    e2[i - 1] = square;
    if (i == 1) continue;
    // The row becomes v of the reflection 1 - v v^T / h that leaves it one element.
    const V norm = square_root<isa>(square);
    row[i - 1] = corner + (corner < 0.0 ? -norm : norm);
    const V h = square + absolute<isa>(corner) * norm;
    const V inverse = square > kTinySquare ? 1.0 / h : V{};
    int64_t r = 0;
    for (; r + kRows <= i; r += kRows) update_and_multiply<isa, kRows>(packed, r, u, w, row, y);
    for (; r < i; ++r) update_and_multiply<isa, 1>(packed, r, u, w, row, y);
    // A - v w^T - w v^T with w = y / h - v (v . y) / (2 h^2)
    V dot{};
    for (int64_t k = 0; k < i; ++k) dot += row[k] * y[k];
    const V half = 0.5 * dot * inverse * inverse;
    for (int64_t k = 0; k < i; ++k) y[k] = y[k] * inverse - row[k] * half;
    u = row;
    std::swap(w, y);
  }
  e2[size - 1] = V{};
}

// A step of a vector of matrices from their last rows up. Of its rotations only the squares of
// cosines and sines are formed; `square` is the square of the next diagonal element before its
// rotation, over the squared cosine of the rotation before.
template <Isa isa>
struct QlStep {
  using V = Lanes<isa>;

  V start{};  // of the block of each lane
  V shift, cosine, sine, gamma, square, negligible;

  // Wilkinson's shift of the rows first and first + 1, and the last row.
  POLARITY_INLINE void begin(const int64_t* first, const V* d, const V* e2, int64_t size) {
    V p, q, between;
    for (int lane = 0; lane < kLanes<isa>; ++lane) {
      const int64_t i = first[lane];
      start[lane] = static_cast<double>(i);
      p[lane] = i < size ? d[i][lane] : 0.0;
      q[lane] = i < size ? d[i + 1][lane] : 0.0;
      between[lane] = i < size ? e2[i][lane] : 1.0;
    }
    const V e = square_root<isa>(between);
    const V ratio = (q - p) / (2.0 * e);
    const V root = square_root<isa>(ratio * ratio + 1.0);
    shift = p - e / (ratio + (ratio < 0.0 ? -root : root));
    cosine = every_lane<isa>(1.0);
    sine = V{};
    gamma = d[size - 1] - shift;
    square = gamma * gamma;
  }

  // Rotates rows i and i + 1.
  POLARITY_INLINE void rotate(int64_t i, V* d, V* e2) {
    const auto mine = every_lane<isa>(static_cast<double>(i + 1)) >= start;
    const V bb = e2[i];
    const auto restart = bb == 0.0;
    const V sum = square + bb;
    const V lower = sine * sum;
    e2[i + 1] = mine ? (lower > negligible ? lower : V{}) : e2[i + 1];
    const V reciprocal = 1.0 / sum;
    const V growth = restart ? every_lane<isa>(1.0) : sum / square;
    const V vanished = cosine * bb;  // the next square where this one is zero
    cosine = restart ? every_lane<isa>(1.0) : square * reciprocal;
    sine = restart ? V{} : bb * reciprocal;
    const V diagonal = d[i];
    const V next = cosine * (diagonal - shift) - sine * gamma;
    d[i + 1] = mine ? gamma + (restart ? shift : diagonal - next) : d[i + 1];
    gamma = next;
    square = growth > 0x1p920 ? vanished : gamma * gamma * growth;
    square = square > kTinySquare ? square : V{};
  }

  // The row `low`, in lanes whose block begins there.
  POLARITY_INLINE void end(int64_t low, V* d, V* e2) const {
    const auto ends = start == static_cast<double>(low);
    const V lower = sine * square;
    e2[low] = ends ? (lower > negligible ? lower : V{}) : e2[low];
    d[low] = ends ? gamma + shift : d[low];
  }
};

// d becomes the eigenvalues, in no order, of `vectors` vectors of matrices side by side: a rotation
// waits for the one before, so that two take hardly longer than one. An off-diagonal element that
// is lost in rounding is set to zero, which restarts the recurrence of a step by itself, so the
// steps of a lane run over all its blocks below the first that is not finished. failed becomes 0 in
// each lane, NaN where the steps did not converge.
template <Isa isa, int vectors>
POLARITY_INLINE void tridiagonal_eigenvalues(Lanes<isa>* const* d, Lanes<isa>* const* e2,
                                             int64_t size, Lanes<isa>* failed) {
  constexpr int64_t kSteps = 40;  // for each eigenvalue, at most; two are usual
  using V = Lanes<isa>;
  QlStep<isa> step[vectors];
  int64_t first[vectors][kLanes<isa>] = {};  // eigenvalues before it are found
  for (int v = 0; v < vectors; ++v) {
    V largest{};
    for (int64_t i = 0; i < size; ++i) {
      largest = d[v][i] * d[v][i] > largest ? d[v][i] * d[v][i] : largest;
      largest = e2[v][i] > largest ? e2[v][i] : largest;
    }
    const V negligible = largest * 0x1p-106 + kTinySquare;
    for (int64_t i = 0; i < size; ++i) e2[v][i] = e2[v][i] > negligible ? e2[v][i] : V{};
    step[v].negligible = negligible;
  }
  for (int64_t count = 0; count < kSteps * size; ++count) {
    int64_t low = size;
    for (int v = 0; v < vectors; ++v) {
      for (int lane = 0; lane < kLanes<isa>; ++lane) {
        int64_t& i = first[v][lane];
        while (i < size && e2[v][i][lane] == 0.0) ++i;
        low = std::min(low, i);
      }
    }
    if (low == size) break;
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) step[v].begin(first[v], d[v], e2[v], size);
    for (int64_t i = size - 2; i >= low; --i) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) step[v].rotate(i, d[v], e2[v]);
    }
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) step[v].end(low, d[v], e2[v]);
  }
  for (int v = 0; v < vectors; ++v) {
    for (int lane = 0; lane < kLanes<isa>; ++lane) {
      const bool is_found = first[v][lane] == size;
      failed[v][lane] = is_found ? 0.0 : std::numeric_limits<double>::quiet_NaN();
    }
  }
}

}  // namespace polarity::cpu
