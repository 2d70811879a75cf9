#include "convolve_to_few.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "cpu_isa.h"
#include "cpu_vector.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int kColumns = 4;  // phases of output channels that are added up together, at most
constexpr int64_t kCacheBytes = 1 << 18;  // of the pixels that are at work

// As many as registers hold: one for each column and vector of pixels.
template <Isa isa>
constexpr int kSums = isa == Isa::avx512 ? 24 : 12;
constexpr int64_t kRoom = 64;  // numbers behind the last, which whole vectors may read and write

// A convolution and its weight, in the order of use.
template <typename T>
struct Convolution {
  const T* x;
  T* out;
  FewShape shape;
  FewFactor<T> factor;
  std::vector<T> weight;  // of each group of columns [channels][taps of y][taps of x][columns]

  // Pixels of a row side by side, with zeros between rows as far as taps reach: a tap is one step
  // in memory, the same for every pixel.
  int64_t pitch() const { return shape.x.in + shape.x.taps(shape.stride) - 1; }
  int64_t columns() const { return shape.stride * shape.stride * shape.out_channels; }
  int64_t taps() const { return shape.y.taps(shape.stride) * shape.x.taps(shape.stride); }
  // Rows q of results: row q is of all pixels Y with Y + padding in stride q .. stride (q + 1) - 1.
  int64_t first_row() const { return shape.y.padding / shape.stride; }
  int64_t last_row() const { return (shape.y.out - 1 + shape.y.padding) / shape.stride; }
};

// The weight [c, o, k, l] by groups; zero where a phase has a tap less.
template <typename T>
std::vector<T> grouped(const T* weight, const FewShape& s, int64_t columns) {
  const int64_t down = s.y.taps(s.stride), across = s.x.taps(s.stride);
  std::vector<T> result;
  result.reserve(static_cast<size_t>(columns * s.channels * down * across));
  for (int64_t first = 0; first < columns; first += kColumns) {
    const int64_t last = std::min<int64_t>(first + kColumns, columns);
    for (int64_t c = 0; c < s.channels; ++c) {
      for (int64_t t = 0; t < down * across; ++t) {
        for (int64_t column = first; column < last; ++column) {
          const int64_t phase = column / s.out_channels, o = column % s.out_channels;
          const int64_t k = phase / s.stride + s.stride * (t / across);
          const int64_t l = phase % s.stride + s.stride * (t % across);
          const bool exists = k < s.y.kernel && l < s.x.kernel;
          const int64_t place = ((c * s.out_channels + o) * s.y.kernel + k) * s.x.kernel + l;
          result.push_back(exists ? weight[place] : T(0));
        }
      }
    }
  }
  return result;
}

// What one thread needs for a band of rows.
template <typename T>
struct Workspace {
  int64_t plane, wide;  // numbers from one channel, and from one column, to the next
  std::unique_ptr<T[]> pixels, sums, line;

  Workspace(const Convolution<T>& conv, int64_t rows)
      : plane((rows + conv.shape.y.taps(conv.shape.stride)) * conv.pitch() + kRoom),
        wide(rows * conv.pitch() + kRoom),
        pixels(new T[conv.shape.channels * plane]()),
        sums(new T[conv.columns() * wide]),
        line(new T[conv.shape.stride * (conv.pitch() + kRoom)]) {}
};

// A row of pixels [in, channels] into the planes of their channels.
template <Isa isa, typename T>
POLARITY_INLINE void spread_row(const T* from, int64_t in, int64_t channels, T* to, int64_t plane) {
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  int64_t c = 0;
  for (; c + kWidth <= channels; c += kWidth) {
    int64_t j = 0;
    for (; j + kWidth <= in; j += kWidth) {
      const T* pixels = from + j * channels + c;
      transpose_square<isa, T>([&](int i) { return pixels + i * channels; }, to + c * plane + j,
                               plane);
    }
    for (; j < in; ++j) {
      for (int64_t i = c; i < c + kWidth; ++i) to[i * plane + j] = from[j * channels + i];
    }
  }
  for (; c < channels; ++c) {
    for (int64_t j = 0; j < in; ++j) to[c * plane + j] = from[j * channels + c];
  }
}

// The pixels that rows first .. first + rows of results are made of.
template <Isa isa, typename T>
POLARITY_INLINE void spread(const Convolution<T>& conv, int64_t image, int64_t first, int64_t rows,
                            Workspace<T>& work) {
  const FewShape& s = conv.shape;
  const int64_t reach = s.y.taps(s.stride) - 1, margin = s.x.taps(s.stride) - 1;
  for (int64_t n = 0; n < rows + reach; ++n) {
    const int64_t i = first - reach + n;
    T* const to = work.pixels.get() + n * conv.pitch() + margin;
    const bool inside = i >= 0 && i < s.y.in;
    const T* const from =
        conv.x + image * s.channels * s.y.in * s.x.in + i * s.x.in * s.pixel_step();
    if (inside && s.last) {
      spread_row<isa>(from, s.x.in, s.channels, to, work.plane);
      continue;
    }
    for (int64_t c = 0; c < s.channels; ++c) {
      T* const line = to + c * work.plane;
      if (inside) {
        std::copy_n(from + c * s.channel_step(), s.x.in, line);
      } else {
        std::fill_n(line, s.x.in, T(0));
      }
    }
  }
}

// Sums over channels and taps, of `columns` columns and `vectors` vectors of neighbouring pixels.
template <Isa isa, int columns, int vectors, typename T>
POLARITY_INLINE void add_up(const T* pixels, int64_t plane, int64_t channels, const int64_t* steps,
                            int64_t taps, const T* weight, T* sums, int64_t wide) {
  using V = Vector<isa, T>;
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  V sum[columns][vectors] = {};
  for (int64_t c = 0; c < channels; ++c, pixels += plane) {
    for (int64_t t = 0; t < taps; ++t, weight += columns) {
      const T* const from = pixels + steps[t];
#pragma GCC unroll 24
      for (int v = 0; v < vectors; ++v) {
        const V pixel = *reinterpret_cast<const V*>(from + v * kWidth);
#pragma GCC unroll 4
        for (int o = 0; o < columns; ++o) sum[o][v] += weight[o] * pixel;
      }
    }
  }
  for (int o = 0; o < columns; ++o) {
    for (int v = 0; v < vectors; ++v) {
      *reinterpret_cast<V*>(sums + o * wide + v * kWidth) = sum[o][v];
    }
  }
}

template <Isa isa, int columns, typename T>
POLARITY_INLINE void add_up_group(const Convolution<T>& conv, const int64_t* steps, const T* weight,
                                  int64_t begin, int64_t end, int64_t column, Workspace<T>& work) {
  constexpr int vectors = kSums<isa> / columns;
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  T* const sums = work.sums.get() + column * work.wide;
  int64_t f = begin;
  for (; f + vectors * kWidth <= end; f += vectors * kWidth) {
    add_up<isa, columns, vectors>(work.pixels.get() + f, work.plane, conv.shape.channels, steps,
                                  conv.taps(), weight, sums + f, work.wide);
  }
  for (; f < end; f += kWidth) {  // the last one reads zeros, or pixels whose sums nobody reads
    add_up<isa, columns, 1>(work.pixels.get() + f, work.plane, conv.shape.channels, steps,
                            conv.taps(), weight, sums + f, work.wide);
  }
}

// Row Y of results from the sums of row q of the band.
template <Isa isa, typename T>
POLARITY_INLINE void write_row(const Convolution<T>& conv, int64_t image, int64_t o, int64_t Y,
                               int64_t row, Workspace<T>& work) {
  using V = Vector<isa, T>;
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  const FewShape& s = conv.shape;
  const int64_t pitch = conv.pitch(), phase = (Y + s.y.padding) % s.stride * s.stride;
  const T* const sums = work.sums.get() + (phase * s.out_channels + o) * work.wide + row * pitch;
  const int64_t next = s.out_channels * work.wide;  // of the columns' phases
  const auto row_of = [&](int64_t n) { return ((n * s.out_channels + o) * s.y.out + Y) * s.x.out; };
  T* const out = conv.out + row_of(image);
  const T* line = sums;
  if (s.stride == 2) {
    for (int64_t q = 0; q < pitch; q += kWidth) {
      V a = *reinterpret_cast<const V*>(sums + q), b = *reinterpret_cast<const V*>(sums + next + q);
      interleave<isa, T>(a, b);
      *reinterpret_cast<V*>(work.line.get() + 2 * q) = a;
      *reinterpret_cast<V*>(work.line.get() + 2 * q + kWidth) = b;
    }
    line = work.line.get();
  } else if (s.stride > 2) {
    for (int64_t r = 0; r < s.stride; ++r) {
      for (int64_t q = 0; q < pitch; ++q) work.line[s.stride * q + r] = sums[r * next + q];
    }
    line = work.line.get();
  }
  const int64_t reached = std::clamp<int64_t>(s.stride * pitch - s.x.padding, 0, s.x.out);
  std::copy_n(line + s.x.padding, reached, out);
  std::fill(out + reached, out + s.x.out, T(0));
  if (conv.factor.values == nullptr) return;
  const T* const factor = conv.factor.values + row_of(image % conv.factor.batch);
  for (int64_t X = 0; X < s.x.out; ++X) out[X] *= factor[X];
}

// Rows first .. first + rows of an image's results.
template <Isa isa, typename T>
POLARITY_INLINE void run_band(const Convolution<T>& conv, int64_t image, int64_t first,
                              int64_t rows, const int64_t* steps, Workspace<T>& work) {
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  const FewShape& s = conv.shape;
  spread<isa>(conv, image, first, rows, work);
  // All columns of some pixels before the next ones, which then are in the nearest cache.
  const int64_t columns = conv.columns(), end = rows * conv.pitch();
  const int64_t block = kSums<isa> * kWidth;  // whole vectors, however many columns there are
  for (int64_t f = 0; f < end; f += block) {
    const T* weight = conv.weight.data();
    for (int64_t column = 0; column < columns; column += kColumns) {
      const int64_t count = std::min<int64_t>(kColumns, columns - column);
      const int64_t stop = std::min(f + block, end);
      if (count == 4) add_up_group<isa, 4>(conv, steps, weight, f, stop, column, work);
      if (count == 3) add_up_group<isa, 3>(conv, steps, weight, f, stop, column, work);
      if (count == 2) add_up_group<isa, 2>(conv, steps, weight, f, stop, column, work);
      if (count == 1) add_up_group<isa, 1>(conv, steps, weight, f, stop, column, work);
      weight += count * s.channels * conv.taps();
    }
  }
  const int64_t Y = s.stride * first - s.y.padding;
  const int64_t begin = std::max<int64_t>(0, Y), limit = std::min(s.y.out, Y + s.stride * rows);
  for (int64_t o = 0; o < s.out_channels; ++o) {
    for (int64_t y = begin; y < limit; ++y) {
      write_row<isa>(conv, image, o, y, (y + s.y.padding) / s.stride - first, work);
    }
  }
}

// Bands begin .. end, counted through all images.
template <Isa isa, typename T>
POLARITY_INLINE void bands_body(const Convolution<T>& conv, int64_t rows, int64_t begin,
                                int64_t end) {
  const FewShape& s = conv.shape;
  const int64_t down = s.y.taps(s.stride), across = s.x.taps(s.stride);
  std::vector<int64_t> steps;
  steps.reserve(static_cast<size_t>(conv.taps()));
  for (int64_t t = 0; t < down * across; ++t) {
    steps.push_back((down - 1 - t / across) * conv.pitch() + across - 1 - t % across);
  }
  Workspace<T> work(conv, rows);
  const int64_t all = conv.last_row() + 1 - conv.first_row(), per_image = (all + rows - 1) / rows;
  for (int64_t n = begin; n < end; ++n) {
    const int64_t first = n % per_image * rows;
    run_band<isa>(conv, n / per_image, conv.first_row() + first, std::min(rows, all - first),
                  steps.data(), work);
  }
}
POLARITY_ISA_VARIANTS(bands,
                      (const Convolution<float>& conv, int64_t rows, int64_t begin, int64_t end),
                      (conv, rows, begin, end))
POLARITY_ISA_VARIANTS(bands,
                      (const Convolution<double>& conv, int64_t rows, int64_t begin, int64_t end),
                      (conv, rows, begin, end))

// Rows of results to a band: as many as a cache holds, and of equal numbers.
template <typename T>
int64_t rows_of_band(const Convolution<T>& conv) {
  const FewShape& s = conv.shape;
  const int64_t numbers = kCacheBytes / static_cast<int64_t>(sizeof(T));
  const int64_t a_row = (s.channels + conv.columns()) * conv.pitch();
  const int64_t all = conv.last_row() + 1 - conv.first_row();
  const int64_t most = std::clamp<int64_t>(numbers / a_row, s.y.taps(s.stride), all);
  const int64_t bands = (all + most - 1) / most;
  return (all + bands - 1) / bands;
}

}  // namespace

template <typename T>
void convolve_to_few(const T* x, const T* weight, T* out, const FewShape& shape,
                     FewFactor<T> factor) {
  if (shape.images * shape.out_channels * shape.y.out * shape.x.out == 0) return;
  if (shape.channels * shape.y.in * shape.x.in == 0) {  // empty sums
    std::fill_n(out, shape.images * shape.out_channels * shape.y.out * shape.x.out, T(0));
    return;
  }
  Convolution<T> conv{x, out, shape, factor, {}};
  conv.weight = grouped(weight, shape, conv.columns());
  const int64_t rows = rows_of_band(conv), all = conv.last_row() + 1 - conv.first_row();
  const int64_t count = shape.images * ((all + rows - 1) / rows);
  parallel_for(count, 1, [&](int64_t begin, int64_t end) { bands(conv, rows, begin, end); });
}

template void convolve_to_few<float>(const float*, const float*, float*, const FewShape&,
                                     FewFactor<float>);
template void convolve_to_few<double>(const double*, const double*, double*, const FewShape&,
                                      FewFactor<double>);

}  // namespace polarity::cpu
