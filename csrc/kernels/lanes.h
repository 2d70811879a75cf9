// One matrix in each lane of a vector register: as many matrices as a register has doubles go
// through the same instructions, and no sum ever crosses lanes. What a matrix gives does not depend
// on its neighbours.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

#include "cpu_vector.h"
#include "symmetric.h"

namespace polarity::cpu {

template <Isa isa>
using Lanes = Vector<isa, double>;
template <Isa isa>
constexpr int kLanes = VectorOf<isa, double>::kWidth;

template <Isa isa>
POLARITY_INLINE Lanes<isa> every_lane(double value) {
  return Lanes<isa>{} + value;
}

template <Isa isa>
POLARITY_INLINE Lanes<isa> absolute(Lanes<isa> x) {
  return x < 0.0 ? -x : x;
}

template <Isa isa>
POLARITY_INLINE Lanes<isa> square_root(Lanes<isa> x) {
  double lanes[kLanes<isa>];
  memcpy(lanes, &x, sizeof x);
  for (double& lane : lanes) lane = __builtin_sqrt(lane);
  memcpy(&x, lanes, sizeof x);
  return x;
}

constexpr int64_t kLaneGrain = 8;  // matrices to a task: the most that a register takes

// Memory for vectors, on a boundary of theirs.
class LaneMemory {
 public:
  explicit LaneMemory(int64_t vectors) : lines_(new Line[static_cast<size_t>(vectors)]) {}
  template <Isa isa>
  Lanes<isa>* get() {
    return reinterpret_cast<Lanes<isa>*>(lines_.get());
  }

 private:
  struct alignas(64) Line {
    double number[8];
  };
  std::unique_ptr<Line[]> lines_;
};

// The lower triangles of `valid` matrices, the last one again in the lanes beyond.
template <Isa isa, typename T>
POLARITY_INLINE void pack(const T* a, const SymmetricBatch& shape, int64_t valid,
                          Lanes<isa>* packed) {
  const T* source[kLanes<isa>];
  for (int64_t lane = 0; lane < kLanes<isa>; ++lane) {
    source[lane] = a + std::min(lane, valid - 1) * shape.stride_batch;
  }
  double* target = reinterpret_cast<double*>(packed);
  for (int64_t row = 0; row < shape.size; ++row) {
    for (int64_t column = 0; column <= row; ++column) {
      const int64_t place = row * shape.stride_row + column * shape.stride_col;
      for (const T* matrix : source) *target++ = static_cast<double>(matrix[place]);
    }
  }
}

}  // namespace polarity::cpu
