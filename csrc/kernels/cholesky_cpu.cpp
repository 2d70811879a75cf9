#include "cholesky.h"

#include <limits>

#include "lanes.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Rows first .. first + rows of L from the rows above them. A pivot that is not positive is NaN
// from there on, in its lane.
template <Isa isa, int rows>
POLARITY_INLINE void factor_rows(Lanes<isa>* packed, Lanes<isa>* inverse, int64_t first) {
  using V = Lanes<isa>;
  V* row[rows];
  for (int r = 0; r < rows; ++r) row[r] = packed + triangle(first + r);
  int64_t column = 0;
  for (; column + 2 <= first; column += 2) {  // two columns share what is loaded of the rows
    const V *left = packed + triangle(column), *right = packed + triangle(column + 1);
    V sum[rows][2];
    for (int r = 0; r < rows; ++r) {
      sum[r][0] = row[r][column];
      sum[r][1] = row[r][column + 1];
    }
    for (int64_t k = 0; k < column; ++k) {
      for (int r = 0; r < rows; ++r) {
        sum[r][0] -= row[r][k] * left[k];
        sum[r][1] -= row[r][k] * right[k];
      }
    }
    for (int r = 0; r < rows; ++r) {
      const V x = sum[r][0] * inverse[column];
      row[r][column] = x;
      row[r][column + 1] = (sum[r][1] - x * right[column]) * inverse[column + 1];
    }
  }
  for (; column < first + rows; ++column) {  // what is left, and the triangle on the diagonal
    const V* above = packed + triangle(column);
    for (int r = column < first ? 0 : static_cast<int>(column - first); r < rows; ++r) {
      V sum = row[r][column];
      for (int64_t k = 0; k < column; ++k) sum -= row[r][k] * above[k];
      if (first + r == column) {
        // NaN where sum is not positive or not finite
        const V pivot = square_root<isa>(sum > 0.0 ? sum : every_lane<isa>(kNaN)) + 0.0 * sum;
        inverse[column] = 1.0 / pivot;
        row[r][column] = pivot;
      } else {
        row[r][column] = sum * inverse[column];
      }
    }
  }
}

template <Isa isa, typename T>
POLARITY_INLINE void factor(const T* a, const SymmetricBatch& shape, int64_t begin, int64_t end,
                            LaneMemory& memory, T* l, int64_t* info) {
  constexpr int kRows = isa == Isa::avx512 ? 8 : 4;  // what the registers hold
  const int64_t size = shape.size;
  Lanes<isa>* inverse = memory.get<isa>();
  Lanes<isa>* packed = inverse + size;
  for (int64_t b = begin; b < end; b += kLanes<isa>) {
    const int64_t valid = std::min<int64_t>(kLanes<isa>, end - b);
    pack<isa>(a + b * shape.stride_batch, shape, valid, packed);
    int64_t row = 0;
    for (; row + kRows <= size; row += kRows) factor_rows<isa, kRows>(packed, inverse, row);
    for (; row < size; ++row) factor_rows<isa, 1>(packed, inverse, row);
    for (int64_t lane = 0; lane < valid; ++lane) {
      T* out = l + (b + lane) * size * size;
      int64_t good = 0;  // columns
      while (good < size && inverse[good][lane] == inverse[good][lane]) ++good;
      info[b + lane] = good < size ? good + 1 : 0;
      for (int64_t i = 0; i < size; ++i) {
        for (int64_t j = 0; j < size; ++j) {
          out[i * size + j] = j > i      ? T(0)
                              : j < good ? static_cast<T>(packed[triangle(i) + j][lane])
                                         : static_cast<T>(kNaN);
        }
      }
    }
  }
}

template <Isa isa>
POLARITY_INLINE void factor_float_body(const float* a, const SymmetricBatch& shape, int64_t begin,
                                       int64_t end, LaneMemory& memory, float* l, int64_t* info) {
  factor<isa>(a, shape, begin, end, memory, l, info);
}
template <Isa isa>
POLARITY_INLINE void factor_double_body(const double* a, const SymmetricBatch& shape, int64_t begin,
                                        int64_t end, LaneMemory& memory, double* l, int64_t* info) {
  factor<isa>(a, shape, begin, end, memory, l, info);
}
POLARITY_ISA_VARIANTS(factor_float,
                      (const float* a, const SymmetricBatch& shape, int64_t begin, int64_t end,
                       LaneMemory& memory, float* l, int64_t* info),
                      (a, shape, begin, end, memory, l, info))
POLARITY_ISA_VARIANTS(factor_double,
                      (const double* a, const SymmetricBatch& shape, int64_t begin, int64_t end,
                       LaneMemory& memory, double* l, int64_t* info),
                      (a, shape, begin, end, memory, l, info))

void run(const float* a, const SymmetricBatch& shape, int64_t begin, int64_t end,
         LaneMemory& memory, float* l, int64_t* info) {
  factor_float(a, shape, begin, end, memory, l, info);
}
void run(const double* a, const SymmetricBatch& shape, int64_t begin, int64_t end,
         LaneMemory& memory, double* l, int64_t* info) {
  factor_double(a, shape, begin, end, memory, l, info);
}

}  // namespace

template <typename T>
void cholesky(const T* a, const SymmetricBatch& shape, T* l, int64_t* info) {
  parallel_for(shape.batch, kLaneGrain, [&](int64_t begin, int64_t end) {
    LaneMemory memory(triangle(shape.size) + shape.size);
    run(a, shape, begin, end, memory, l, info);
  });
}

template void cholesky<float>(const float*, const SymmetricBatch&, float*, int64_t*);
template void cholesky<double>(const double*, const SymmetricBatch&, double*, int64_t*);

}  // namespace polarity::cpu
