#include "jacobi_singular_values.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "../device/scale.h"
#include "lanes.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kPartial = 4;  // sums of a column are formed in so many parts
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// The columns of `valid` matrices, the last one again in the lanes beyond; `height` >= rows, zeros
// there. Brings every lane's largest element near one; a lane that is not finite becomes zero.
// Returns what takes its values back: a power of two, or NaN.
template <Isa isa, typename T>
POLARITY_INLINE Lanes<isa> load_columns(const T* a, const TallBatch& shape, int64_t valid,
                                        int64_t height, Lanes<isa>* columns) {
  using V = Lanes<isa>;
  const T* source[kLanes<isa>];
  for (int64_t lane = 0; lane < kLanes<isa>; ++lane) {
    source[lane] = a + std::min(lane, valid - 1) * shape.stride_batch;
  }
  V largest{}, poison{};
  for (int64_t row = 0; row < height; ++row) {
    for (int64_t column = 0; column < shape.columns; ++column) {
      V x{};
      if (row < shape.rows) {
        const int64_t place = row * shape.stride_row + column * shape.stride_col;
        for (int lane = 0; lane < kLanes<isa>; ++lane) {
          x[lane] = static_cast<double>(source[lane][place]);
        }
      }
      const V size = absolute<isa>(x);
      largest = size > largest ? size : largest;
      poison += x * 0.0;
      columns[column * height + row] = x;
    }
  }
  V factor, inverse;
  for (int lane = 0; lane < kLanes<isa>; ++lane) {
    const Scale scale = scale_to_one(largest[lane]);
    factor[lane] = scale.factor;
    inverse[lane] = scale.inverse;
  }
  for (int64_t i = 0; i < height * shape.columns; ++i) {
    columns[i] = poison == 0.0 ? columns[i] * factor : V{};
  }
  return inverse + poison;
}

template <Isa isa>
POLARITY_INLINE Lanes<isa> dot(const Lanes<isa>* x, const Lanes<isa>* y, int64_t height) {
  Lanes<isa> sum[kPartial] = {};
  for (int64_t i = 0; i < height; i += kPartial) {
    for (int64_t k = 0; k < kPartial; ++k) sum[k] += x[i + k] * y[i + k];
  }
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// x and y become `matrix` times both; their squares with them. Squares are summed anew: updating
// them would lose the digits of a column that becomes small.
template <Isa isa>
POLARITY_INLINE void combine(Lanes<isa>* x, Lanes<isa>* y, int64_t height,
                             const Lanes<isa> (&matrix)[2][2], Lanes<isa>& x_square,
                             Lanes<isa>& y_square) {
  using V = Lanes<isa>;
  V x_sum[kPartial] = {}, y_sum[kPartial] = {};
  for (int64_t i = 0; i < height; i += kPartial) {
    for (int64_t k = 0; k < kPartial; ++k) {
      const V u = x[i + k], v = y[i + k];
      const V p = matrix[0][0] * u + matrix[0][1] * v;
      const V q = matrix[1][0] * u + matrix[1][1] * v;
      x[i + k] = p;
      y[i + k] = q;
      x_sum[k] += p * p;
      y_sum[k] += q * q;
    }
  }
  x_square = (x_sum[0] + x_sum[1]) + (x_sum[2] + x_sum[3]);
  y_square = (y_sum[0] + y_sum[1]) + (y_sum[2] + y_sum[3]);
}

// Makes columns p < q orthogonal and, where that takes a rotation, the longer one the first (which
// saves sweeps). Adds one to `rotated` in each lane where they were not orthogonal; a lane that has
// nothing to do keeps its bits.
template <Isa isa>
POLARITY_INLINE void rotate(Lanes<isa>* x, Lanes<isa>* y, int64_t height, double tolerance,
                            Lanes<isa>& x_square, Lanes<isa>& y_square, Lanes<isa>& rotated) {
  using V = Lanes<isa>;
  const V product = dot<isa>(x, y, height);
  const V limit = tolerance * (square_root<isa>(x_square) * square_root<isa>(y_square));
  const V zero{}, one = every_lane<isa>(1.0);
  V turn = absolute<isa>(product) > limit ? one : zero;
  turn = x_square > kTinySquare ? turn : zero;
  turn = y_square > kTinySquare ? turn : zero;
  // Not without a rotation: a sweep that counts none must have met every pair in its place.
  const V exchange = y_square > x_square ? turn : zero;
  bool idle = true;
  for (int lane = 0; lane < kLanes<isa>; ++lane) idle &= turn[lane] == 0.0;
  if (idle) return;

  const V zeta = (y_square - x_square) / (2.0 * (turn > 0.0 ? product : one));
  const V size = 1.0 / (absolute<isa>(zeta) + square_root<isa>(1.0 + zeta * zeta));
  const V tangent = turn > 0.0 ? (zeta < 0.0 ? -size : size) : zero;
  const V cosine = 1.0 / square_root<isa>(1.0 + tangent * tangent);
  const V sine = cosine * tangent;
  const auto swap = exchange > 0.0;
  const V matrix[2][2] = {{swap ? sine : cosine, swap ? cosine : -sine},
                          {swap ? cosine : sine, swap ? -sine : cosine}};
  combine<isa>(x, y, height, matrix, x_square, y_square);
  rotated += turn;
}

template <Isa isa, typename T>
POLARITY_INLINE void solve(const T* a, const TallBatch& shape, int64_t max_sweeps, int64_t begin,
                           int64_t end, LaneMemory& memory, T* values, int64_t* info) {
  using V = Lanes<isa>;
  const int64_t size = shape.columns;
  const int64_t height = (shape.rows + kPartial - 1) / kPartial * kPartial;
  const double tolerance = orthogonal_below(shape.rows);
  V* square = memory.get<isa>();
  V* columns = square + size;
  for (int64_t b = begin; b < end; b += kLanes<isa>) {
    const int64_t valid = std::min<int64_t>(kLanes<isa>, end - b);
    const V back = load_columns<isa>(a + b * shape.stride_batch, shape, valid, height, columns);
    for (int64_t p = 0; p < size; ++p) {
      square[p] = dot<isa>(columns + p * height, columns + p * height, height);
    }
    V rotated{};
    for (int64_t sweep = 0; sweep < max_sweeps; ++sweep) {
      rotated = V{};
      for (int64_t p = 0; p < size; ++p) {
        for (int64_t q = p + 1; q < size; ++q) {
          rotate<isa>(columns + p * height, columns + q * height, height, tolerance, square[p],
                      square[q], rotated);
        }
      }
      bool done = true;
      for (int lane = 0; lane < kLanes<isa>; ++lane) done &= rotated[lane] == 0.0;
      if (done) break;
    }
    double* sorted = reinterpret_cast<double*>(columns);
    for (int64_t lane = 0; lane < valid; ++lane) {
      const bool finite = back[lane] == back[lane];
      info[b + lane] = finite ? static_cast<int64_t>(rotated[lane]) : -1;
      for (int64_t i = 0; i < size; ++i) sorted[i] = square[i][lane];
      std::sort(sorted, sorted + size, std::greater<double>());
      for (int64_t i = 0; i < size; ++i) {
        const double value = __builtin_sqrt(sorted[i]) * back[lane];
        values[(b + lane) * size + i] = static_cast<T>(rotated[lane] == 0.0 ? value : kNaN);
      }
    }
  }
}

template <Isa isa>
POLARITY_INLINE void solve_float_body(const float* a, const TallBatch& shape, int64_t max_sweeps,
                                      int64_t begin, int64_t end, LaneMemory& memory, float* values,
                                      int64_t* info) {
  solve<isa>(a, shape, max_sweeps, begin, end, memory, values, info);
}
template <Isa isa>
POLARITY_INLINE void solve_double_body(const double* a, const TallBatch& shape, int64_t max_sweeps,
                                       int64_t begin, int64_t end, LaneMemory& memory,
                                       double* values, int64_t* info) {
  solve<isa>(a, shape, max_sweeps, begin, end, memory, values, info);
}
POLARITY_ISA_VARIANTS(solve_float,
                      (const float* a, const TallBatch& shape, int64_t max_sweeps, int64_t begin,
                       int64_t end, LaneMemory& memory, float* values, int64_t* info),
                      (a, shape, max_sweeps, begin, end, memory, values, info))
POLARITY_ISA_VARIANTS(solve_double,
                      (const double* a, const TallBatch& shape, int64_t max_sweeps, int64_t begin,
                       int64_t end, LaneMemory& memory, double* values, int64_t* info),
                      (a, shape, max_sweeps, begin, end, memory, values, info))

void run(const float* a, const TallBatch& shape, int64_t max_sweeps, int64_t begin, int64_t end,
         LaneMemory& memory, float* values, int64_t* info) {
  solve_float(a, shape, max_sweeps, begin, end, memory, values, info);
}
void run(const double* a, const TallBatch& shape, int64_t max_sweeps, int64_t begin, int64_t end,
         LaneMemory& memory, double* values, int64_t* info) {
  solve_double(a, shape, max_sweeps, begin, end, memory, values, info);
}

}  // namespace

template <typename T>
void jacobi_singular_values(const T* a, const TallBatch& shape, int64_t max_sweeps, T* values,
                            int64_t* info) {
  parallel_for(shape.batch, kLaneGrain, [&](int64_t begin, int64_t end) {
    LaneMemory memory(shape.columns * (shape.rows + kPartial));
    run(a, shape, max_sweeps, begin, end, memory, values, info);
  });
}

template void jacobi_singular_values<float>(const float*, const TallBatch&, int64_t, float*,
                                            int64_t*);
template void jacobi_singular_values<double>(const double*, const TallBatch&, int64_t, double*,
                                             int64_t*);

}  // namespace polarity::cpu
