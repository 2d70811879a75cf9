#include "winograd.h"

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "cpu_isa.h"
#include "cpu_vector.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kPanel = kWinogradPanel;  // output channels that are multiplied together
constexpr int64_t kPadding = 16;
constexpr int64_t kCacheBytes = 1 << 19;  // of the transformed tiles of a block
// Channels whose products are added up before they join the others: the rounding of a sum grows
// with the root of its length, and transforms back to images enlarge it.
constexpr int64_t kSum = 32;

// Accumulators of the micro-kernel: rows (tiles) by two vectors (channels) fill the registers.
template <Isa isa>
constexpr int kRows = isa == Isa::avx512 ? 12 : 6;
constexpr int kVectors = 2;
constexpr int64_t kUnit = kRows<Isa::avx512>;  // and a multiple of the other sets'

template <typename T>
struct Convolution {
  const T* x;
  const T* panels;  // of the weight: [places][phase and panel of `to`][from.depth()][kPanel]
  T* out;
  TileShape from, to;
  int64_t full;  // phases with all taps, along an axis
  bool transposed;
  WinogradMask<T> mask;

  // Between the tiles of a block. Not a power of two, which would put them all in one set of a
  // cache.
  int64_t row() const { return from.depth() + kPadding; }

  // Whether the weight of a phase is zero at a place.
  bool is_empty(int64_t place, int64_t phase) const {
    const int64_t stride = std::max(from.stride, to.stride);
    const int64_t infinity = from.tile - 1;
    return (place / from.tile == infinity && phase / stride >= full) ||
           (place % from.tile == infinity && phase % stride >= full);
  }
};

int64_t divided_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit; }

int64_t panels_of_phase(const TileShape& to) { return divided_up(to.channels, kPanel); }

// Equal blocks of a thread's tiles, whole rows of the micro-kernel: as many as a cache holds, and
// enough of them that the weight, which is read for each block, is worth it.
template <typename T>
int64_t block_of(const TileShape& from, int64_t tiles) {
  const int64_t numbers = from.places() * from.depth();
  const int64_t fitting = kCacheBytes / static_cast<int64_t>(sizeof(T)) / numbers;
  const int64_t most = std::clamp<int64_t>(fitting / kUnit, 4, 16) * kUnit;
  const int64_t blocks = divided_up(tiles, most);
  return divided_up(divided_up(tiles, blocks), kUnit) * kUnit;
}

// What one thread needs.
template <typename T>
struct Workspace {
  int64_t block;                         // tiles at a time
  std::unique_ptr<T[]> tiles, products;  // [places][block][row], [places][block][kPanel]
  std::vector<T> zeros, unwanted;        // pixels beyond the border

  Workspace(const Convolution<T>& c, int64_t count)
      : block(block_of<T>(c.from, count)),
        tiles(new T[c.from.places() * block * c.row()]()),
        products(new T[c.from.places() * block * kPanel]),
        zeros(static_cast<size_t>(std::max(c.from.channels, c.to.channels))),
        unwanted(static_cast<size_t>(c.to.channels)) {}
};

// Where count x count pixels from a position on are; `elsewhere` for those beyond the border.
template <int count, typename T>
POLARITY_INLINE void locate(T* images, T* elsewhere, const TileShape& shape, TilePosition at,
                            T* (&places)[count * count]) {
  for (int i = 0; i < count; ++i) {
    const int64_t y = at.y + i * shape.stride;
    const int64_t row = (at.image * shape.y.pixels + y) * shape.x.pixels;
    for (int j = 0; j < count; ++j) {
      const int64_t x = at.x + j * shape.stride;
      const bool inside = y >= 0 && y < shape.y.pixels && x >= 0 && x < shape.x.pixels;
      places[count * i + j] = inside ? images + (row + x) * shape.channels : elsewhere;
    }
  }
}

// Along an edge, from the pixels of a tile, `count` of them, to values at its points.
template <int tile, int count, int pitch, typename T, typename V>
POLARITY_INLINE void to_points(V* v) {
  if constexpr (count == tile) {
    interpolate_transposed<tile, pitch, T>(v);
  } else {
    evaluate<tile, count, pitch, T>(v);
  }
}

template <int tile, int count, int pitch, typename T, typename V>
POLARITY_INLINE void from_points(V* v) {
  if constexpr (count == tile) {
    interpolate<tile, pitch, T>(v);
  } else {
    evaluate_transposed<tile, count, pitch, T>(v);
  }
}

// Pixels to values at the points, as many channels as a V holds, from `c` on.
template <int tile, int count, typename V, typename T>
POLARITY_INLINE void transform(const T* const (&from)[count * count], int64_t c, T* to,
                               int64_t plane) {
  V v[tile][tile];
#pragma GCC unroll 6
  for (int j = 0; j < count; ++j) {
#pragma GCC unroll 6
    for (int i = 0; i < count; ++i) {
      v[i][j] = *reinterpret_cast<const V*>(from[count * i + j] + c);
    }
    to_points<tile, count, tile, T>(&v[0][j]);
  }
#pragma GCC unroll 6
  for (int i = 0; i < tile; ++i) {
    to_points<tile, count, 1, T>(v[i]);
#pragma GCC unroll 6
    for (int j = 0; j < tile; ++j) {
      *reinterpret_cast<V*>(to + (tile * i + j) * plane + c) = v[i][j];
    }
  }
}

// Bits of the lanes of a vector, from number `c` on, as factors.
template <Isa isa, typename T>
POLARITY_INLINE Vector<isa, T> factors_of(const uint8_t* bits, int64_t c, T low, T high) {
  constexpr int kWidth = VectorOf<isa, T>::kWidth;
  using Lane = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef Lane Lanes __attribute__((vector_size(VectorOf<isa, T>::kBytes)));
  Lanes places;
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) places[i] = Lane(1) << i;
  Lane word = bits[c / 8] >> c % 8;
  if constexpr (kWidth == 16) word |= Lane(bits[c / 8 + 1]) << 8;
  const Vector<isa, T> none = {};
  return (places & word) != 0 ? none + high : none + low;
}

// What the pixels of a tile are multiplied by.
template <int count, typename T>
struct TileMask {
  const uint8_t* bits[count * count];  // of the first channel; none: by 1
  T low, high;
};

// Products at the points to pixels; those of neighbouring tiles that overlap are added to `before`.
template <Isa isa, int tile, int count, typename V, typename T>
POLARITY_INLINE void collect(const T* from, int64_t plane, T* const (&to)[count * count],
                             const T* const (&before)[count * count],
                             const TileMask<count, T>& mask, int64_t first, int64_t c) {
  V v[tile][tile];
#pragma GCC unroll 6
  for (int j = 0; j < tile; ++j) {
#pragma GCC unroll 6
    for (int i = 0; i < tile; ++i) {
      v[i][j] = *reinterpret_cast<const V*>(from + (tile * i + j) * plane + c);
    }
    from_points<tile, count, tile, T>(&v[0][j]);
  }
#pragma GCC unroll 6
  for (int i = 0; i < count; ++i) {
    from_points<tile, count, 1, T>(v[i]);
#pragma GCC unroll 6
    for (int j = 0; j < count; ++j) {
      V sum = v[i][j];
      if constexpr (count == tile) {
        sum += *reinterpret_cast<const V*>(before[count * i + j] + first + c);
      }
      const uint8_t* const bits = mask.bits[count * i + j];
      if (bits != nullptr) {
        if constexpr (std::is_same_v<V, T>) {
          sum *= bits[(first + c) / 8] >> (first + c) % 8 & 1 ? mask.high : mask.low;
        } else {
          sum *= factors_of<isa, T>(bits, first + c, mask.low, mask.high);
        }
      }
      *reinterpret_cast<V*>(to[count * i + j] + first + c) = sum;
    }
  }
}

// The channels behind the last whole vector, for all instruction sets alike.
template <int tile, int count, typename T>
__attribute__((noinline)) void transform_rest(const T* const (&from)[count * count], int64_t c,
                                              int64_t end, T* to, int64_t plane) {
  for (; c < end; ++c) transform<tile, count, T>(from, c, to, plane);
}

template <int tile, int count, typename T>
__attribute__((noinline)) void collect_rest(const T* from, int64_t plane,
                                            T* const (&to)[count * count],
                                            const T* const (&before)[count * count],
                                            const TileMask<count, T>& mask, int64_t first,
                                            int64_t c, int64_t end) {
  for (; c < end; ++c) {
    collect<Isa::baseline, tile, count, T>(from, plane, to, before, mask, first, c);
  }
}

// Tiles first .. first + tiles into the workspace, each of count x count pixels.
template <Isa isa, int tile, int count, typename T>
POLARITY_INLINE void read_tiles(const Convolution<T>& conv, int64_t first, int64_t tiles,
                                Workspace<T>& work) {
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  const TileShape& shape = conv.from;
  const int64_t plane = work.block * conv.row();
  for (int64_t n = 0; n < tiles; ++n) {
    T* to = work.tiles.get() + n * conv.row();
    for (int64_t phase = 0; phase < shape.phases(); ++phase, to += shape.channels) {
      const T* from[count * count];
      locate<count, const T>(conv.x, work.zeros.data(), shape,
                             tile_position(shape, first + n, phase), from);
      int64_t c = 0;
      for (; c + kWidth <= shape.channels; c += kWidth) {
        transform<tile, count, Vector<isa, T>>(from, c, to, plane);
      }
      if (c < shape.channels) {
        transform_rest<tile, count, T>(from, c, shape.channels, to, plane);
      }
    }
  }
}

// kRows rows of tiles times two vectors of a panel, added to the products or their first terms.
template <Isa isa, typename T>
POLARITY_INLINE void multiply(const T* tiles, int64_t stride, int64_t depth, const T* panel,
                              T* products, bool first) {
  using V = Vector<isa, T>;
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  V sum[kRows<isa>][kVectors] = {};
  for (int64_t k = 0; k < depth; ++k, panel += kPanel) {
    V column[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      column[v] = *reinterpret_cast<const V*>(panel + v * kWidth);
    }
    for (int r = 0; r < kRows<isa>; ++r) {
      for (int v = 0; v < kVectors; ++v) sum[r][v] += tiles[r * stride + k] * column[v];
    }
  }
  for (int r = 0; r < kRows<isa>; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      V* const place = reinterpret_cast<V*>(products + r * kPanel + v * kWidth);
      *place = first ? sum[r][v] : *place + sum[r][v];
    }
  }
}

// The products of all tiles in the workspace and one panel of a phase of `to`, at one place.
template <Isa isa, typename T>
POLARITY_INLINE void multiply_panel(const Convolution<T>& conv, int64_t panel, int64_t place,
                                    int64_t phase, int64_t tiles, Workspace<T>& work) {
  const TileShape& from = conv.from;
  const int64_t panels = conv.to.phases() * panels_of_phase(conv.to);
  const T* const weight = conv.panels + (place * panels + panel) * from.depth() * kPanel;
  T* const products = work.products.get() + place * work.block * kPanel;
  // Rows behind the last tile are left over from other blocks, and not looked at.
  for (int64_t row = 0; row < tiles; row += kRows<isa>) {
    const T* const source = work.tiles.get() + (place * work.block + row) * conv.row();
    bool first = true;
    for (int64_t part = 0; part < from.phases(); ++part) {
      if (conv.is_empty(place, conv.to.stride > 1 ? phase : part)) continue;
      for (int64_t c = 0; c < from.channels; c += kSum) {
        const int64_t k = part * from.channels + c, count = std::min(kSum, from.channels - c);
        for (int64_t o = 0; o < kPanel; o += kVectors * VectorOf<isa, T>::kWidth) {
          multiply<isa>(source + k, conv.row(), count, weight + k * kPanel + o,
                        products + row * kPanel + o, first);
        }
        first = false;
      }
    }
    if (first) std::fill_n(products + row * kPanel, kRows<isa> * kPanel, T(0));
  }
}

// The mask of a tile at this position, of pixels that no tile behind it is added to: `below` and
// `right` are those from where on one is.
template <int count, typename T>
POLARITY_INLINE void locate_mask(const Convolution<T>& conv, TilePosition at, int64_t below,
                                 int64_t right, TileMask<count, T>& mask) {
  const TileShape& shape = conv.to;
  const int64_t bytes = shape.channels / 8, across = shape.x.pixels * bytes;
  const uint8_t* const image =
      conv.mask.bits + at.image % conv.mask.batch * shape.y.pixels * across;
  for (int i = 0; i < count; ++i) {
    const int64_t y = at.y + i * shape.stride;
    for (int j = 0; j < count; ++j) {
      const int64_t x = at.x + j * shape.stride;
      const bool inside = y >= 0 && y < shape.y.pixels && x >= 0 && x < shape.x.pixels;
      const bool final = i < below && j < right;
      mask.bits[count * i + j] = inside && final ? image + y * across + x * bytes : nullptr;
    }
  }
}

// Channels first .. first + width of a phase, of the tiles in the workspace.
template <Isa isa, int tile, int count, typename T>
POLARITY_INLINE void write_pixels(const Convolution<T>& conv, int64_t begin, int64_t tiles,
                                  int64_t phase, int64_t first, int64_t width, Workspace<T>& work) {
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  const int64_t plane = work.block * kPanel, step = conv.to.step;
  const int64_t across = conv.to.x.tiles, per_image = conv.to.image_tiles();
  T* next[count * count];
  locate<count, T>(conv.out, work.unwanted.data(), conv.to, tile_position(conv.to, begin, phase),
                   next);
  TileMask<count, T> mask{{}, conv.mask.low, conv.mask.high};
  for (int64_t n = 0; n < tiles; ++n) {
    T* to[count * count];
    std::copy_n(next, count * count, to);
    if (n + 1 < tiles) {
      locate<count, T>(conv.out, work.unwanted.data(), conv.to,
                       tile_position(conv.to, begin + n + 1, phase), next);
      // Two cache lines of every pixel, too far apart for the processor to foresee.
      for (int i = 0; i < count * count; ++i) {
        __builtin_prefetch(next[i] + first, 1);
        __builtin_prefetch(next[i] + first + 16, 1);
      }
    }
    // What the tiles above and to the left have written already: they come first.
    const T* before[count * count];
    const int64_t place = (begin + n) % per_image;
    const int64_t above = place >= across ? count - step : 0;
    const int64_t left = place % across > 0 ? count - step : 0;
    for (int i = 0; i < count; ++i) {
      for (int j = 0; j < count; ++j) {
        const bool written = (i < above || j < left) && to[count * i + j] != work.unwanted.data();
        before[count * i + j] = written ? to[count * i + j] : work.zeros.data();
      }
    }
    if (conv.mask.bits != nullptr) {
      const bool last_row = place >= per_image - across, last = place % across == across - 1;
      locate_mask<count>(conv, tile_position(conv.to, begin + n, phase), last_row ? count : step,
                         last ? count : step, mask);
    }
    const T* from = work.products.get() + n * kPanel;
    int64_t c = 0;
    for (; c + kWidth <= width; c += kWidth) {
      collect<isa, tile, count, Vector<isa, T>>(from, plane, to, before, mask, first, c);
    }
    if (c < width) collect_rest<tile, count, T>(from, plane, to, before, mask, first, c, width);
  }
}

template <Isa isa, int tile, int step, typename T>
POLARITY_INLINE void read(const Convolution<T>& conv, int64_t first, int64_t tiles,
                          Workspace<T>& work) {
  if (conv.transposed) return read_tiles<isa, tile, step>(conv, first, tiles, work);
  read_tiles<isa, tile, tile>(conv, first, tiles, work);
}

template <Isa isa, int tile, int step, typename T>
POLARITY_INLINE void write(const Convolution<T>& conv, int64_t begin, int64_t tiles, int64_t phase,
                           int64_t first, int64_t width, Workspace<T>& work) {
  if (conv.transposed) {
    return write_pixels<isa, tile, tile>(conv, begin, tiles, phase, first, width, work);
  }
  write_pixels<isa, tile, step>(conv, begin, tiles, phase, first, width, work);
}

// Tiles begin .. end.
template <Isa isa, int tile, int step, typename T>
POLARITY_INLINE void run_tiles(const Convolution<T>& conv, int64_t begin, int64_t end) {
  Workspace<T> work(conv, end - begin);
  const int64_t places = conv.from.places(), panels = panels_of_phase(conv.to);
  for (int64_t first = begin; first < end; first += work.block) {
    const int64_t tiles = std::min(work.block, end - first);
    read<isa, tile, step>(conv, first, tiles, work);
    for (int64_t panel = 0; panel < conv.to.phases() * panels; ++panel) {
      const int64_t phase = panel / panels, channel = panel % panels * kPanel;
      for (int64_t place = 0; place < places; ++place) {
        multiply_panel<isa>(conv, panel, place, phase, tiles, work);
      }
      const int64_t width = std::min(kPanel, conv.to.channels - channel);
      write<isa, tile, step>(conv, first, tiles, phase, channel, width, work);
    }
  }
}

template <Isa isa, typename T>
POLARITY_INLINE void tiles_body(const Convolution<T>& conv, int64_t begin, int64_t end) {
  if (conv.from.tile == 5) return run_tiles<isa, 5, 4>(conv, begin, end);
  if (conv.from.tile == 4 && conv.from.step == 2) return run_tiles<isa, 4, 2>(conv, begin, end);
  if (conv.from.tile == 4) return run_tiles<isa, 4, 3>(conv, begin, end);
  if (conv.from.step == 3) return run_tiles<isa, 6, 3>(conv, begin, end);
  run_tiles<isa, 6, 4>(conv, begin, end);
}
POLARITY_ISA_VARIANTS(tiles, (const Convolution<float>& conv, int64_t begin, int64_t end),
                      (conv, begin, end))
POLARITY_ISA_VARIANTS(tiles, (const Convolution<double>& conv, int64_t begin, int64_t end),
                      (conv, begin, end))

// The weight [places][depth][numbers of `to`] in panels; zero behind the last channel.
template <typename T>
std::unique_ptr<T[]> in_panels(const T* weight, const TileShape& from, const TileShape& to) {
  const int64_t depth = from.depth(), count = panels_of_phase(to), panels = to.phases() * count;
  std::unique_ptr<T[]> result(new T[from.places() * panels * depth * kPanel]);
  parallel_for(from.places() * panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const int64_t place = n / panels, panel = n % panels, channel = panel % count * kPanel;
      const int64_t width = std::min(kPanel, to.channels - channel);
      const T* source = weight + place * depth * to.depth() + panel / count * to.channels + channel;
      T* target = result.get() + n * depth * kPanel;
      for (int64_t row = 0; row < depth; ++row, source += to.depth(), target += kPanel) {
        std::copy_n(source, width, target);
        std::fill(target + width, target + kPanel, T(0));
      }
    }
  });
  return result;
}

}  // namespace

template <typename T>
void winograd(const T* x, const T* weight, T* out, const TileShape& from, const TileShape& to,
              int64_t full, bool transposed, bool has_panels, const WinogradMask<T>& mask) {
  if (from.tiles() * to.channels == 0) return;
  if (from.channels == 0) {  // empty sums
    std::fill_n(out, to.images * to.y.pixels * to.x.pixels * to.channels, T(0));
    return;
  }
  const std::unique_ptr<T[]> panels = has_panels ? nullptr : in_panels(weight, from, to);
  const Convolution<T> conv{
      x, has_panels ? weight : panels.get(), out, from, to, full, transposed, mask};
  // Tiles of results that overlap are added up by one thread, in order.
  const int64_t unit = transposed ? from.image_tiles() : kUnit;
  parallel_for(divided_up(from.tiles(), unit), 1, [&](int64_t begin, int64_t end) {
    tiles(conv, begin * unit, std::min(end * unit, from.tiles()));
  });
}

template void winograd<float>(const float*, const float*, float*, const TileShape&,
                              const TileShape&, int64_t, bool, bool, const WinogradMask<float>&);
template void winograd<double>(const double*, const double*, double*, const TileShape&,
                               const TileShape&, int64_t, bool, bool, const WinogradMask<double>&);

}  // namespace polarity::cpu
