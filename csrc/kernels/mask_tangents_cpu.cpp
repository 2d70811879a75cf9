#include "mask_tangents.h"

#include <algorithm>
#include <vector>

#include "cpu_isa.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kGrain = 1 << 13;  // numbers of a task
// Numbers of a sample at a time: their factors stay in the second-level cache while the probes go
// by.
constexpr int64_t kPiece = 1 << 15;

template <typename T>
struct Rectified {
  const T* x;
  T slope;
  T* y;
  uint8_t* bits;
  int64_t size, bytes, pieces;  // of a sample
};

// Eight flags, each 0 or 1, as the bits of a byte: the product moves flag k to bit 56 + k.
POLARITY_INLINE uint8_t byte_of(const uint8_t* flags) {
  uint64_t word = 0;
  for (int k = 0; k < 8; ++k) word |= static_cast<uint64_t>(flags[k]) << 8 * k;
  return static_cast<uint8_t>(word * 0x0102040810204080u >> 56);
}

// Items begin .. end of (sample, piece).
template <Isa isa, typename T>
POLARITY_INLINE void rectify_pieces_body(const Rectified<T>& r, int64_t begin, int64_t end) {
  uint8_t flags[kPiece];
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / r.pieces;
    const int64_t first = (item - b * r.pieces) * kPiece;
    const int64_t count = std::min(kPiece, r.size - first);
    const T* x = r.x + b * r.size + first;
    T* y = r.y + b * r.size + first;
#pragma GCC ivdep  // y is a fresh allocation
    for (int64_t i = 0; i < count; ++i) {
      y[i] = rectified(x[i], r.slope);
      flags[i] = static_cast<uint8_t>(x[i] > T(0));
    }
    const int64_t bytes = (count + 7) / 8;
    std::fill(flags + count, flags + 8 * bytes, uint8_t{0});
    uint8_t* bits = r.bits + b * r.bytes + first / 8;
    for (int64_t i = 0; i < bytes; ++i) bits[i] = byte_of(flags + 8 * i);
  }
}
POLARITY_ISA_VARIANTS(rectify_pieces, (const Rectified<float>& r, int64_t begin, int64_t end),
                      (r, begin, end))
POLARITY_ISA_VARIANTS(rectify_pieces, (const Rectified<double>& r, int64_t begin, int64_t end),
                      (r, begin, end))

template <typename T>
struct Masked {
  const T* t;
  const uint8_t* bits;
  T low, high;
  T* out;
  MaskLayout layout;
  int64_t pieces;  // of a sample
};

template <typename T>
POLARITY_INLINE void unpack(const uint8_t* bits, T low, T high, int64_t bytes, T* factors) {
  for (int64_t byte = 0; byte < bytes; ++byte) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) factors[8 * byte + i] = (bits[byte] >> i) & 1 ? high : low;
  }
}

// Items begin .. end of (sample, piece, probe).
template <Isa isa, typename T>
POLARITY_INLINE void mask_pieces_body(const Masked<T>& m, int64_t begin, int64_t end) {
  const MaskLayout& layout = m.layout;
  std::vector<T> factors(static_cast<size_t>(std::min(kPiece, (layout.size + 7) / 8 * 8)));
  int64_t unpacked = -1;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t block = item / layout.probes;
    const int64_t l = item - block * layout.probes;
    const int64_t b = block / m.pieces;
    const int64_t first = (block - b * m.pieces) * kPiece;
    const int64_t count = std::min(kPiece, layout.size - first);
    if (block != unpacked) {
      unpack(m.bits + b * layout.bytes() + first / 8, m.low, m.high, (count + 7) / 8,
             factors.data());
      unpacked = block;
    }
    const T* t = m.t + l * layout.t_probe + b * layout.t_batch + first;
    const T* factor = factors.data();
    T* out = m.out + l * layout.out_probe + b * layout.out_batch + first;
#pragma GCC ivdep  // out may be t itself, never a shifted copy of it
    for (int64_t i = 0; i < count; ++i) out[i] = t[i] * factor[i];
  }
}
POLARITY_ISA_VARIANTS(mask_pieces, (const Masked<float>& m, int64_t begin, int64_t end),
                      (m, begin, end))
POLARITY_ISA_VARIANTS(mask_pieces, (const Masked<double>& m, int64_t begin, int64_t end),
                      (m, begin, end))

}  // namespace

template <typename T>
void rectify(const T* x, T slope, T* y, uint8_t* bits, int64_t batch, int64_t size) {
  if (batch * size == 0) return;
  const int64_t pieces = (size + kPiece - 1) / kPiece;
  const Rectified<T> rectified{x, slope, y, bits, size, (size + 7) / 8, pieces};
  const int64_t grain = std::max<int64_t>(1, kGrain / std::min(kPiece, size));
  parallel_for(batch * pieces, grain,
               [&](int64_t begin, int64_t end) { rectify_pieces(rectified, begin, end); });
}

template <typename T>
void mask_tangents(const T* t, const uint8_t* bits, T low, T high, T* out,
                   const MaskLayout& layout) {
  if (layout.probes * layout.batch * layout.size == 0) return;
  const Masked<T> masked{t, bits, low, high, out, layout, (layout.size + kPiece - 1) / kPiece};
  const int64_t grain = std::max<int64_t>(1, kPiece / std::min(kPiece, layout.size));
  parallel_for(layout.batch * masked.pieces * layout.probes, grain,
               [&](int64_t begin, int64_t end) { mask_pieces(masked, begin, end); });
}

#define POLARITY_INSTANTIATE(T)                                          \
  template void rectify<T>(const T*, T, T*, uint8_t*, int64_t, int64_t); \
  template void mask_tangents<T>(const T*, const uint8_t*, T, T, T*, const MaskLayout& layout);
POLARITY_INSTANTIATE(float)
POLARITY_INSTANTIATE(double)

}  // namespace polarity::cpu
