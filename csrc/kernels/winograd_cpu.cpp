#include "winograd.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "cpu_isa.h"
#include "cpu_vector.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kPanel = 32;  // output channels that are multiplied together
constexpr int64_t kPadding = 16;
constexpr int64_t kCacheBytes = 1 << 19;  // of the transformed tiles of a block
// Channels whose products are added up before they join the others: the rounding of a sum grows
// with the root of its length, and transforms back to images enlarge it.
constexpr int64_t kSum = 32;
// So many blocks may read the weight as it is: to put it in order would take longer.
constexpr int64_t kUnpackedBlocks = 4;

// Accumulators of the micro-kernel: rows (tiles) by two vectors (channels) fill the registers.
template <Isa isa>
constexpr int kRows = isa == Isa::avx512 ? 12 : 6;
constexpr int kVectors = 2;

template <typename T>
struct Convolution {
  const T* x;
  const T* weight;  // [places][from.depth()][to.depth()]
  const T* panels;  // [phase and panel of `to`][places][from.depth()][kPanel], or nothing
  T* out;
  TileShape from, to;
  int64_t full;   // phases with all taps, along an axis
  int64_t block;  // tiles

  // Between the tiles of a block. Not a power of two, which would put them all in one set of a
  // cache.
  int64_t row() const { return from.depth() + kPadding; }

  // Whether the weight of a phase is zero at a place.
  bool is_empty(int64_t place, int64_t phase) const {
    const int64_t stride = std::max(from.stride, to.stride);
    const int64_t point = to.stride > 1 ? 0 : from.tile - 1;
    return (place / from.tile == point && phase / stride >= full) ||
           (place % from.tile == point && phase % stride >= full);
  }
};

int64_t divided_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit; }

int64_t panels_of_phase(const TileShape& to) { return divided_up(to.channels, kPanel); }

// What one thread needs.
template <typename T>
struct Workspace {
  std::unique_ptr<T[]> tiles, products;  // [places][block][row], [places][block][kPanel]
  std::vector<T> zeros, unwanted;        // pixels beyond the border

  explicit Workspace(const Convolution<T>& c)
      : tiles(new T[c.from.places() * c.block * c.row()]()),
        products(new T[c.from.places() * c.block * kPanel]),
        zeros(static_cast<size_t>(c.from.channels)),
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

// As many channels as a V holds, from `c` on.
template <int tile, typename V, typename T>
POLARITY_INLINE void transform(const T* const (&from)[tile * tile], int64_t c, T* to,
                               int64_t plane) {
  V v[tile][tile];
#pragma GCC unroll 6
  for (int j = 0; j < tile; ++j) {
#pragma GCC unroll 6
    for (int i = 0; i < tile; ++i) {
      v[i][j] = *reinterpret_cast<const V*>(from[tile * i + j] + c);
    }
    to_points<tile, tile, T>(&v[0][j]);
  }
#pragma GCC unroll 6
  for (int i = 0; i < tile; ++i) {
    to_points<tile, 1, T>(v[i]);
#pragma GCC unroll 6
    for (int j = 0; j < tile; ++j) {
      *reinterpret_cast<V*>(to + (tile * i + j) * plane + c) = v[i][j];
    }
  }
}

template <int tile, int step, typename V, typename T>
POLARITY_INLINE void collect(const T* from, int64_t plane, T* const (&to)[step * step],
                             int64_t first, int64_t c) {
  V v[tile][tile];
#pragma GCC unroll 6
  for (int j = 0; j < tile; ++j) {
#pragma GCC unroll 6
    for (int i = 0; i < tile; ++i) {
      v[i][j] = *reinterpret_cast<const V*>(from + (tile * i + j) * plane + c);
    }
    from_points<tile, step, tile, T>(&v[0][j]);
  }
#pragma GCC unroll 6
  for (int i = 0; i < step; ++i) {
    from_points<tile, step, 1, T>(v[i]);
#pragma GCC unroll 6
    for (int j = 0; j < step; ++j) {
      *reinterpret_cast<V*>(to[step * i + j] + first + c) = v[i][j];
    }
  }
}

// Tiles first .. first + count into the workspace.
template <Isa isa, int tile, typename T>
POLARITY_INLINE void read_tiles(const Convolution<T>& conv, int64_t first, int64_t count,
                                Workspace<T>& work) {
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  const TileShape& shape = conv.from;
  const int64_t plane = conv.block * conv.row();
  for (int64_t n = 0; n < count; ++n) {
    T* to = work.tiles.get() + n * conv.row();
    for (int64_t phase = 0; phase < shape.phases(); ++phase, to += shape.channels) {
      const T* from[tile * tile];
      locate<tile, const T>(conv.x, work.zeros.data(), shape,
                            tile_position(shape, first + n, phase), from);
      int64_t c = 0;
      for (; c + kWidth <= shape.channels; c += kWidth) {
        transform<tile, Vector<isa, T>>(from, c, to, plane);
      }
      for (; c < shape.channels; ++c) transform<tile, T>(from, c, to, plane);
    }
  }
}

// kRows rows of tiles times two vectors of a panel, added to the products or their first terms.
template <Isa isa, typename T>
POLARITY_INLINE void multiply(const T* tiles, int64_t stride, int64_t depth, const T* panel,
                              int64_t pitch, T* products, bool first) {
  using V = Vector<isa, T>;
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  V sum[kRows<isa>][kVectors] = {};
  for (int64_t k = 0; k < depth; ++k, panel += pitch) {
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
  const int64_t depth = from.depth(), channel = panel % panels_of_phase(conv.to) * kPanel;
  const int64_t pitch = conv.panels == nullptr ? conv.to.depth() : kPanel;
  const T* const weight =
      conv.panels == nullptr
          ? conv.weight + place * depth * pitch + phase * conv.to.channels + channel
          : conv.panels + (panel * from.places() + place) * depth * kPanel;
  T* const products = work.products.get() + place * conv.block * kPanel;
  // Rows behind the last tile are left over from other blocks, and not looked at.
  for (int64_t row = 0; row < tiles; row += kRows<isa>) {
    const T* const source = work.tiles.get() + (place * conv.block + row) * conv.row();
    bool first = true;
    for (int64_t part = 0; part < from.phases(); ++part) {
      if (conv.is_empty(place, conv.to.stride > 1 ? phase : part)) continue;
      for (int64_t c = 0; c < from.channels; c += kSum) {
        const int64_t k = part * from.channels + c, count = std::min(kSum, from.channels - c);
        for (int64_t o = 0; o < kPanel; o += kVectors * VectorOf<isa, T>::kWidth) {
          multiply<isa>(source + k, conv.row(), count, weight + k * pitch + o, pitch,
                        products + row * kPanel + o, first);
        }
        first = false;
      }
    }
    if (first) std::fill_n(products + row * kPanel, kRows<isa> * kPanel, T(0));
  }
}

// Channels first .. first + width of a phase, of the tiles in the workspace.
template <Isa isa, int tile, int step, typename T>
POLARITY_INLINE void write_pixels(const Convolution<T>& conv, int64_t tiles, int64_t count,
                                  int64_t phase, int64_t first, int64_t width, Workspace<T>& work) {
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  const int64_t plane = conv.block * kPanel;
  for (int64_t n = 0; n < count; ++n) {
    T* to[step * step];
    locate<step, T>(conv.out, work.unwanted.data(), conv.to,
                    tile_position(conv.to, tiles + n, phase), to);
    const T* from = work.products.get() + n * kPanel;
    int64_t c = 0;
    for (; c + kWidth <= width; c += kWidth) {
      collect<tile, step, Vector<isa, T>>(from, plane, to, first, c);
    }
    for (; c < width; ++c) collect<tile, step, T>(from, plane, to, first, c);
  }
}

// Blocks begin .. end.
template <Isa isa, int tile, int step, typename T>
POLARITY_INLINE void run_blocks(const Convolution<T>& conv, int64_t begin, int64_t end) {
  Workspace<T> work(conv);
  const int64_t count = conv.from.tiles(), places = conv.from.places();
  const int64_t panels = panels_of_phase(conv.to);
  for (int64_t block = begin; block < end; ++block) {
    const int64_t first = block * conv.block;
    const int64_t tiles = std::min(conv.block, count - first);
    read_tiles<isa, tile>(conv, first, tiles, work);
    for (int64_t panel = 0; panel < conv.to.phases() * panels; ++panel) {
      const int64_t phase = panel / panels, channel = panel % panels * kPanel;
      for (int64_t place = 0; place < places; ++place) {
        multiply_panel<isa>(conv, panel, place, phase, tiles, work);
      }
      const int64_t width = std::min(kPanel, conv.to.channels - channel);
      write_pixels<isa, tile, step>(conv, first, tiles, phase, channel, width, work);
    }
  }
}

template <Isa isa, typename T>
POLARITY_INLINE void blocks_body(const Convolution<T>& conv, int64_t begin, int64_t end) {
  if (conv.from.tile == 6) return run_blocks<isa, 6, 4>(conv, begin, end);
  if (conv.to.step == 2) return run_blocks<isa, 4, 2>(conv, begin, end);
  run_blocks<isa, 4, 3>(conv, begin, end);
}
POLARITY_ISA_VARIANTS(blocks, (const Convolution<float>& conv, int64_t begin, int64_t end),
                      (conv, begin, end))
POLARITY_ISA_VARIANTS(blocks, (const Convolution<double>& conv, int64_t begin, int64_t end),
                      (conv, begin, end))

// The weight in panels, so that it is read from end to end; zero behind the last channel.
template <typename T>
std::unique_ptr<T[]> packed(const T* weight, const TileShape& from, const TileShape& to) {
  const int64_t depth = from.depth(), panels = panels_of_phase(to), rows = from.places() * depth;
  std::unique_ptr<T[]> packed(new T[to.phases() * panels * rows * kPanel]);
  parallel_for(to.phases() * panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      const int64_t channel = panel % panels * kPanel;
      const int64_t width = std::min(kPanel, to.channels - channel);
      const T* source = weight + panel / panels * to.channels + channel;
      T* target = packed.get() + panel * rows * kPanel;
      for (int64_t row = 0; row < rows; ++row, target += kPanel) {
        std::copy_n(source + row * to.depth(), width, target);
        std::fill(target + width, target + kPanel, T(0));
      }
    }
  });
  return packed;
}

// Whole rows of the micro-kernel, as many as a cache holds; enough of them that the weight, which
// is read for each block, is worth it.
template <typename T>
int64_t block_of(const TileShape& from) {
  constexpr int64_t kUnit = kRows<Isa::avx512>;  // and a multiple of the other sets'
  const int64_t numbers = from.places() * from.depth();
  const int64_t fitting = kCacheBytes / static_cast<int64_t>(sizeof(T)) / numbers;
  return std::clamp<int64_t>(fitting / kUnit, 4, 16) * kUnit;
}

}  // namespace

template <typename T>
void winograd(const T* x, const T* weight, T* out, const TileShape& from, const TileShape& to,
              int64_t full) {
  if (from.tiles() * to.channels == 0) return;
  if (from.channels == 0) {  // empty sums
    std::fill_n(out, to.images * to.y.pixels * to.x.pixels * to.channels, T(0));
    return;
  }
  const int64_t block = block_of<T>(from), count = divided_up(from.tiles(), block);
  const bool as_it_is = to.channels % kPanel == 0 && count <= kUnpackedBlocks;
  const std::unique_ptr<T[]> panels = as_it_is ? nullptr : packed(weight, from, to);
  const Convolution<T> conv{x, weight, panels.get(), out, from, to, full, block};
  parallel_for(count, 1, [&](int64_t begin, int64_t end) { blocks(conv, begin, end); });
}

template void winograd<float>(const float*, const float*, float*, const TileShape&,
                              const TileShape&, int64_t);
template void winograd<double>(const double*, const double*, double*, const TileShape&,
                               const TileShape&, int64_t);

}  // namespace polarity::cpu
