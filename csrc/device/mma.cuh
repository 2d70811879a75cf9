// Tensor-core products D = A B + C of a whole warp. `g` is lane / 4 and `t` is lane % 4; the
// layouts are those of the PTX manual ("Matrix fragments for mma").
#pragma once

#include "portability.cuh"

namespace polarity::device {

// 8 x 8 x 4 in double: a lane has A[g][t], B[t][g] and C[g][2t], C[g][2t + 1].
POLARITY_DEVICE void mma_m8n8k4(double (&c)[2], double a, double b) {
#ifdef POLARITY_EMULATED
  const double mine[2] = {a, b};
  double all[32][2];
  emulator::all_gather("mma_m8n8k4", mine, sizeof mine, all, {__FILE__, __LINE__});
  const int g = lane() / 4, t = lane() % 4;
  for (int k = 0; k < 4; ++k) {
    for (int j = 0; j < 2; ++j) c[j] = ::fma(all[4 * g + k][0], all[4 * (2 * t + j) + k][1], c[j]);
  }
#else
  asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
      : "+d"(c[0]), "+d"(c[1])
      : "d"(a), "d"(b));
#endif
}

// 16 x 8 x 8 in double: a lane has a = {A[g][t], A[g+8][t], A[g][t+4], A[g+8][t+4]}, b = {B[t][g],
// B[t+4][g]} and c = {C[g][2t], C[g][2t+1], C[g+8][2t], C[g+8][2t+1]}. Before compute capability
// 9.0 in four steps.
POLARITY_DEVICE void mma_m16n8k8(double (&c)[4], const double (&a)[4], const double (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm("mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64"
      " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+d"(c[0]), "+d"(c[1]), "+d"(c[2]), "+d"(c[3])
      : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(b[0]), "d"(b[1]));
#else
  for (int half = 0; half < 2; ++half) {
    double rows[2] = {c[2 * half], c[2 * half + 1]};
    mma_m8n8k4(rows, a[half], b[0]);
    mma_m8n8k4(rows, a[half + 2], b[1]);
    c[2 * half] = rows[0];
    c[2 * half + 1] = rows[1];
  }
#endif
}

// The nearest number with 10 bits of mantissa, ties away from zero.
POLARITY_DEVICE float to_tf32(float x) {
#ifdef POLARITY_EMULATED
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7f800000u) != 0x7f800000u) bits += 0x1000u;
  bits &= 0xffffe000u;
  std::memcpy(&x, &bits, sizeof bits);
  return x;
#else
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return __uint_as_float(bits);
#endif
}

// 16 x 8 x 8 in tf32, summed in float: a lane has a = {A[g][t], A[g+8][t], A[g][t+4], A[g+8][t+4]},
// b = {B[t][g], B[t+4][g]} and c = {C[g][2t], C[g][2t+1], C[g+8][2t], C[g+8][2t+1]}. The
// arguments are numbers that to_tf32 has rounded: of others the last 13 bits are not read.
POLARITY_DEVICE void mma_m16n8k8(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
#ifdef POLARITY_EMULATED
  const float mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  float all[32][6];
  emulator::all_gather("mma_m16n8k8", mine, sizeof mine, all, {__FILE__, __LINE__});
  const int g = lane() / 4, t = lane() % 4;
  for (int i = 0; i < 4; ++i) {
    double sum = c[i];  // the order and width of the hardware's sum are not documented
    for (int k = 0; k < 8; ++k) {
      const float left = emulator::read_as_tf32(all[4 * g + k % 4][i / 2 + 2 * (k / 4)]);
      const float right = emulator::read_as_tf32(all[4 * (2 * t + i % 2) + k % 4][4 + k / 4]);
      sum += static_cast<double>(left) * right;
    }
    c[i] = static_cast<float>(sum);
  }
#else
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"
      " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
        "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
#endif
}

// The same product to nearly float precision ("3xTF32"): every factor is a sum of two tf32
// numbers, and the product of the two small ones is dropped. Small terms are summed first.
POLARITY_DEVICE void mma_m16n8k8_split(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
  float a_high[4], a_low[4], b_high[2], b_low[2];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    a_high[i] = to_tf32(a[i]);
    a_low[i] = to_tf32(a[i] - a_high[i]);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    b_high[i] = to_tf32(b[i]);
    b_low[i] = to_tf32(b[i] - b_high[i]);
  }
  mma_m16n8k8(c, a_low, b_high);
  mma_m16n8k8(c, a_high, b_low);
  mma_m16n8k8(c, a_high, b_high);
}

}  // namespace polarity::device
