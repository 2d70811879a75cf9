#include "upfirdn2d.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "cpu_isa.h"
#include "cpu_vector.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kGrain = 1 << 14;  // multiplications of a task

template <typename T>
struct Operands {
  const T *x, *taps;
  T* out;
  FirShape shape;
};

int64_t divided_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit; }

// Per output of an axis: the first tap that meets an input, and which one. The next taps that do
// are `up` apart and meet the inputs that follow.
struct Meeting {
  int64_t tap, input;
};

std::vector<Meeting> meetings(const FirAxis& axis, int64_t count) {
  std::vector<Meeting> first(static_cast<size_t>(count));
  for (int64_t o = 0; o < count; ++o) {
    const int64_t tap = axis.first_tap(o);
    first[o] = {tap, axis.input(o, tap)};
  }
  return first;
}

// A channel, rearranged so that all that a run of outputs meets is adjacent and nothing has to be
// checked: outputs p, p + up, ... meet the same taps, and inputs `down` apart. So each row is dealt
// into `down` piles, with zeros on both sides.
template <typename T>
struct Padded {
  std::vector<Meeting> phase;  // of outputs 0 .. up - 1
  int64_t run;                 // outputs of a phase, whole vectors
  int64_t before, pile, row;   // zeros in front, length of a pile and of a row
  std::unique_ptr<T[]> values, sums;

  Padded(const FirAxis& y, const FirAxis& x, int64_t width)
      : phase(meetings(x, x.up)), run(divided_up(divided_up(x.out, x.up), width) * width) {
    int64_t lowest = 0, highest = 0;  // places in a pile
    for (const Meeting& first : phase) {
      lowest = std::min(lowest, first.input);
      highest = std::max(highest, first.input + divided_up(x.taps, x.up));
    }
    before = divided_up(-lowest, x.down) + 1;
    const int64_t needed = highest / x.down + 1 + run;
    pile = before + std::max(divided_up(x.in, x.down), needed);
    row = pile * x.down;
    values.reset(new T[y.in * row]());
    sums.reset(new T[run * x.up]);
  }

  void load(const T* x, const FirAxis& y, const FirAxis& axis) {
    for (int64_t i = 0; i < y.in; ++i) {
      for (int64_t q = 0; q < axis.down; ++q) {
        T* target = values.get() + i * row + q * pile + before;
        const T* source = x + i * axis.in + q;
        for (int64_t j = 0; q + j * axis.down < axis.in; ++j) target[j] = source[j * axis.down];
      }
    }
  }
};

// sums[m] of `vectors` vectors of one phase, over all taps that meet inputs.
template <Isa isa, int vectors, typename T>
POLARITY_INLINE void filter_run(const Padded<T>& padded, const T* taps, const FirShape& shape,
                                const Meeting& at_y, const Meeting& at_x, int64_t m, T* sums) {
  using V = Vector<isa, T>;
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  V sum[vectors] = {};
  int64_t i = at_y.input;
  for (int64_t ky = at_y.tap; ky < shape.y.taps; ky += shape.y.up, ++i) {
    if (i < 0 || i >= shape.y.in) continue;
    const T* row = padded.values.get() + i * padded.row + padded.before + m;
    int64_t place = at_x.input;
    for (int64_t kx = at_x.tap; kx < shape.x.taps; kx += shape.x.up, ++place) {
      // Its pile and its place there; rounded down, which division of negative numbers is not.
      const int64_t deep = shape.x.down == 1 ? place
                           : place >= 0      ? place / shape.x.down
                                             : -((shape.x.down - 1 - place) / shape.x.down);
      const T* source = row + (place - deep * shape.x.down) * padded.pile + deep;
      const T weight = taps[ky * shape.x.taps + kx];
      for (int v = 0; v < vectors; ++v) {
        sum[v] += weight * *reinterpret_cast<const V*>(source + v * kWidth);
      }
    }
  }
  for (int v = 0; v < vectors; ++v) *reinterpret_cast<V*>(sums + m + v * kWidth) = sum[v];
}

// The runs of all phases, dealt out again.
template <typename T>
POLARITY_INLINE void interleave(const T* sums, int64_t run, int64_t up, T* out, int64_t count) {
  if (up == 2) {
    for (int64_t m = 0; m < count / 2; ++m) {
      out[2 * m] = sums[m];
      out[2 * m + 1] = sums[run + m];
    }
    if (count % 2) out[count - 1] = sums[count / 2];
    return;
  }
  for (int64_t p = 0; p < up; ++p) {
    for (int64_t m = 0; p + m * up < count; ++m) out[p + m * up] = sums[p * run + m];
  }
}

// Rows begin .. end of all channels of all images.
template <Isa isa, typename T>
POLARITY_INLINE void planes_body(const Operands<T>& o, int64_t begin, int64_t end) {
  const FirShape& shape = o.shape;
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  Padded<T> padded(shape.y, shape.x, kWidth);
  const std::vector<Meeting> rows = meetings(shape.y, shape.y.out);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t plane = item / shape.y.out;
    const int64_t row = item - plane * shape.y.out;
    if (item == begin || row == 0) {
      padded.load(o.x + plane * shape.y.in * shape.x.in, shape.y, shape.x);
    }
    for (int64_t p = 0; p < shape.x.up; ++p) {
      T* sums = padded.sums.get() + p * padded.run;
      int64_t m = 0;
      for (; m + 4 * kWidth <= padded.run; m += 4 * kWidth) {
        filter_run<isa, 4>(padded, o.taps, shape, rows[row], padded.phase[p], m, sums);
      }
      for (; m + 2 * kWidth <= padded.run; m += 2 * kWidth) {
        filter_run<isa, 2>(padded, o.taps, shape, rows[row], padded.phase[p], m, sums);
      }
      if (m < padded.run) {
        filter_run<isa, 1>(padded, o.taps, shape, rows[row], padded.phase[p], m, sums);
      }
    }
    interleave(padded.sums.get(), padded.run, shape.x.up, o.out + item * shape.x.out, shape.x.out);
  }
}
POLARITY_ISA_VARIANTS(planes, (const Operands<float>& o, int64_t begin, int64_t end),
                      (o, begin, end))
POLARITY_ISA_VARIANTS(planes, (const Operands<double>& o, int64_t begin, int64_t end),
                      (o, begin, end))

// Channels of one pixel: `vectors` vectors of them, or `rest` single ones where that is zero.
template <Isa isa, int vectors, typename T>
POLARITY_INLINE void filter_pixel(const T* x, const T* taps, T* out, const FirShape& shape,
                                  const Meeting& at_y, const Meeting& at_x, int64_t rest) {
  using V = Vector<isa, T>;
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  V sum[vectors > 0 ? vectors : 1] = {};
  if (vectors == 0) std::fill_n(out, rest, T(0));
  int64_t y = at_y.input;
  for (int64_t ky = at_y.tap; ky < shape.y.taps; ky += shape.y.up, ++y) {
    if (y < 0 || y >= shape.y.in) continue;
    int64_t i = at_x.input;
    for (int64_t kx = at_x.tap; kx < shape.x.taps; kx += shape.x.up, ++i) {
      if (i < 0 || i >= shape.x.in) continue;
      const T* source = x + (y * shape.x.in + i) * shape.channels;
      const T weight = taps[ky * shape.x.taps + kx];
      for (int v = 0; v < vectors; ++v) {
        sum[v] += weight * *reinterpret_cast<const V*>(source + v * kWidth);
      }
      for (int64_t c = 0; vectors == 0 && c < rest; ++c) out[c] += weight * source[c];
    }
  }
  for (int v = 0; v < vectors; ++v) *reinterpret_cast<V*>(out + v * kWidth) = sum[v];
}

// Adjacent numbers of a line, `vectors` vectors of them, all of whose taps along x meet inputs,
// which of the next pixel are `channels` further on. x is that of the first tap.
template <Isa isa, int vectors, typename T>
POLARITY_INLINE void filter_numbers(const T* x, const T* taps, T* out, const FirShape& shape,
                                    int64_t first_row) {
  using V = Vector<isa, T>;
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  V sum[vectors] = {};
  const int64_t end = std::min(shape.y.taps, shape.y.in - first_row);
  for (int64_t ky = std::max<int64_t>(0, -first_row); ky < end; ++ky) {
    const T* source = x + (first_row + ky) * shape.x.in * shape.channels;
    for (int64_t kx = 0; kx < shape.x.taps; ++kx, source += shape.channels) {
      const T weight = taps[ky * shape.x.taps + kx];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        sum[v] += weight * *reinterpret_cast<const V*>(source + v * kWidth);
      }
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < vectors; ++v) *reinterpret_cast<V*>(out + v * kWidth) = sum[v];
}

// `count` of them, a vector at least; the last vector may repeat what was done.
template <Isa isa, typename T>
POLARITY_INLINE void filter_run_of_line(const T* x, const T* taps, T* out, const FirShape& shape,
                                        int64_t first_row, int64_t count) {
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  int64_t i = 0;
  for (; i + 8 * kWidth <= count; i += 8 * kWidth) {
    filter_numbers<isa, 8>(x + i, taps, out + i, shape, first_row);
  }
  for (; i < count; i += kWidth) {
    const int64_t at = std::min(i, count - kWidth);
    filter_numbers<isa, 1>(x + at, taps, out + at, shape, first_row);
  }
}

// All channels of one pixel.
template <Isa isa, typename T>
POLARITY_INLINE void filter_channels(const T* x, const T* taps, T* out, const FirShape& shape,
                                     const Meeting& row, const Meeting& column) {
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  int64_t c = 0;
  for (; c + 4 * kWidth <= shape.channels; c += 4 * kWidth) {
    filter_pixel<isa, 4>(x + c, taps, out + c, shape, row, column, 0);
  }
  for (; c + kWidth <= shape.channels; c += kWidth) {
    filter_pixel<isa, 1>(x + c, taps, out + c, shape, row, column, 0);
  }
  if (c < shape.channels) {
    filter_pixel<isa, 0>(x + c, taps, out + c, shape, row, column, shape.channels - c);
  }
}

// Rows begin .. end of all images, channels last.
template <Isa isa, typename T>
POLARITY_INLINE void lines_body(const Operands<T>& o, int64_t begin, int64_t end) {
  const FirShape& shape = o.shape;
  const FirAxis& across = shape.x;
  const std::vector<Meeting> rows = meetings(shape.y, shape.y.out);
  const std::vector<Meeting> columns = meetings(across, across.out);
  // Pixels first .. last of a line are filtered as one run of numbers.
  const bool plain = std::max({shape.y.up, shape.y.down, across.up, across.down}) == 1;
  int64_t first = std::clamp<int64_t>(across.pad, 0, across.out);
  int64_t last = std::clamp(across.in - across.taps + across.pad + 1, first, across.out);
  if (!plain || (last - first) * shape.channels < VectorOf<isa, T>::kWidth) first = last = 0;
  for (int64_t line = begin; line < end; ++line) {
    const int64_t image = line / shape.y.out;
    const Meeting& row = rows[line - image * shape.y.out];
    const T* x = o.x + image * shape.y.in * across.in * shape.channels;
    T* out = o.out + line * across.out * shape.channels;
    if (first < last) {
      filter_run_of_line<isa>(x + (first - across.pad) * shape.channels, o.taps,
                              out + first * shape.channels, shape, row.input,
                              (last - first) * shape.channels);
    }
    for (int64_t i = 0; i < across.out; ++i) {
      if (i >= first && i < last) continue;
      filter_channels<isa>(x, o.taps, out + i * shape.channels, shape, row, columns[i]);
    }
  }
}
POLARITY_ISA_VARIANTS(lines, (const Operands<float>& o, int64_t begin, int64_t end),
                      (o, begin, end))
POLARITY_ISA_VARIANTS(lines, (const Operands<double>& o, int64_t begin, int64_t end),
                      (o, begin, end))

}  // namespace

template <typename T>
void upfirdn2d(const T* x, const T* taps, T* out, const FirShape& shape) {
  const int64_t count = shape.images * shape.y.out;
  if (count * shape.channels * shape.x.out == 0) return;
  const Operands<T> operands{x, taps, out, shape};
  const int64_t met = divided_up(shape.y.taps, shape.y.up) * divided_up(shape.x.taps, shape.x.up);
  const auto grain = [&](int64_t size) { return std::max<int64_t>(1, kGrain / (size * met)); };
  if (shape.channels_last) {
    parallel_for(count, grain(shape.x.out * shape.channels),
                 [&](int64_t begin, int64_t end) { lines(operands, begin, end); });
  } else {
    parallel_for(count * shape.channels, std::max(grain(shape.x.out), shape.y.out / 4),
                 [&](int64_t begin, int64_t end) { planes(operands, begin, end); });
  }
}

template void upfirdn2d<float>(const float*, const float*, float*, const FirShape&);
template void upfirdn2d<double>(const double*, const double*, double*, const FirShape&);

}  // namespace polarity::cpu
