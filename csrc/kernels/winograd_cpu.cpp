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

// Accumulators of the micro-kernel: rows (tiles) by two vectors (channels) fill the registers.
template <Isa isa>
constexpr int kRows = isa == Isa::avx512 ? 12 : 6;
constexpr int kVectors = 2;

template <typename T>
struct Convolution {
  const T* x;
  const T* panels;  // [phase and panel of `to`][16][from.depth()][kPanel]
  T* out;
  TileShape from, to;
  int64_t block;  // tiles

  // Between the tiles of a block. Not a power of two, which would put them all in one set of a
  // cache.
  int64_t row() const { return from.depth() + kPadding; }
};

int64_t divided_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit; }

int64_t panels_of_phase(const TileShape& to) { return divided_up(to.channels, kPanel); }

// What one thread needs.
template <typename T>
struct Workspace {
  std::unique_ptr<T[]> tiles, products;  // [16][block][row], [16][block][kPanel]
  std::vector<T> zeros, unwanted;        // pixels beyond the border

  explicit Workspace(const Convolution<T>& c)
      : tiles(new T[kPlaces * c.block * c.row()]()),
        products(new T[kPlaces * c.block * kPanel]),
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
template <typename V, typename T>
POLARITY_INLINE void transform(const T* const (&from)[kPlaces], int64_t c, T* to, int64_t plane) {
  V tile[kTile][kTile];
#pragma GCC unroll 4
  for (int j = 0; j < kTile; ++j) {
#pragma GCC unroll 4
    for (int i = 0; i < kTile; ++i) {
      tile[i][j] = *reinterpret_cast<const V*>(from[kTile * i + j] + c);
    }
    to_points(tile[0][j], tile[1][j], tile[2][j], tile[3][j]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < kTile; ++i) {
    to_points(tile[i][0], tile[i][1], tile[i][2], tile[i][3]);
#pragma GCC unroll 4
    for (int j = 0; j < kTile; ++j) {
      *reinterpret_cast<V*>(to + (kTile * i + j) * plane + c) = tile[i][j];
    }
  }
}

template <int step, typename V, typename T>
POLARITY_INLINE void collect(const T* from, int64_t plane, T* const (&to)[step * step],
                             int64_t first, int64_t c) {
  V tile[kTile][kTile];
#pragma GCC unroll 4
  for (int j = 0; j < kTile; ++j) {
#pragma GCC unroll 4
    for (int i = 0; i < kTile; ++i) {
      tile[i][j] = *reinterpret_cast<const V*>(from + (kTile * i + j) * plane + c);
    }
    from_points<step>(tile[0][j], tile[1][j], tile[2][j], tile[3][j]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < step; ++i) {
    from_points<step>(tile[i][0], tile[i][1], tile[i][2], tile[i][3]);
#pragma GCC unroll 4
    for (int j = 0; j < step; ++j) {
      *reinterpret_cast<V*>(to[step * i + j] + first + c) = tile[i][j];
    }
  }
}

// Tiles first .. first + count into the workspace.
template <Isa isa, typename T>
POLARITY_INLINE void read_tiles(const Convolution<T>& conv, int64_t first, int64_t count,
                                Workspace<T>& work) {
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  const TileShape& shape = conv.from;
  const int64_t plane = conv.block * conv.row();
  for (int64_t tile = 0; tile < count; ++tile) {
    T* to = work.tiles.get() + tile * conv.row();
    for (int64_t phase = 0; phase < shape.phases(); ++phase, to += shape.channels) {
      const T* from[kPlaces];
      locate<kTile, const T>(conv.x, work.zeros.data(), shape,
                             tile_position(shape, first + tile, phase), from);
      int64_t c = 0;
      for (; c + kWidth <= shape.channels; c += kWidth) {
        transform<Vector<isa, T>>(from, c, to, plane);
      }
      for (; c < shape.channels; ++c) transform<T>(from, c, to, plane);
    }
  }
}

// kRows rows of tiles times two vectors of a panel.
template <Isa isa, typename T>
POLARITY_INLINE void multiply(const T* tiles, int64_t stride, int64_t depth, const T* panel,
                              T* products) {
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
      *reinterpret_cast<V*>(products + r * kPanel + v * kWidth) = sum[r][v];
    }
  }
}

// Channels first .. first + width of a phase, of the tiles in the workspace.
template <Isa isa, int step, typename T>
POLARITY_INLINE void write_pixels(const Convolution<T>& conv, int64_t tiles, int64_t count,
                                  int64_t phase, int64_t first, int64_t width, Workspace<T>& work) {
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  const int64_t plane = conv.block * kPanel;
  for (int64_t tile = 0; tile < count; ++tile) {
    T* to[step * step];
    locate<step, T>(conv.out, work.unwanted.data(), conv.to,
                    tile_position(conv.to, tiles + tile, phase), to);
    const T* from = work.products.get() + tile * kPanel;
    int64_t c = 0;
    for (; c + kWidth <= width; c += kWidth) {
      collect<step, Vector<isa, T>>(from, plane, to, first, c);
    }
    for (; c < width; ++c) collect<step, T>(from, plane, to, first, c);
  }
}

// Blocks begin .. end.
template <Isa isa, typename T>
POLARITY_INLINE void blocks_body(const Convolution<T>& conv, int64_t begin, int64_t end) {
  Workspace<T> work(conv);
  const int64_t depth = conv.from.depth(), count = conv.from.tiles();
  const int64_t panels = panels_of_phase(conv.to);
  for (int64_t block = begin; block < end; ++block) {
    const int64_t first = block * conv.block;
    const int64_t tiles = std::min(conv.block, count - first);
    read_tiles<isa>(conv, first, tiles, work);
    for (int64_t panel = 0; panel < conv.to.phases() * panels; ++panel) {
      for (int64_t place = 0; place < kPlaces; ++place) {
        const T* weight = conv.panels + (panel * kPlaces + place) * depth * kPanel;
        // Rows behind the last tile are left over from other blocks, and not looked at.
        for (int64_t row = 0; row < tiles; row += kRows<isa>) {
          const int64_t at = place * conv.block + row;
          for (int64_t c = 0; c < kPanel; c += kVectors * VectorOf<isa, T>::kWidth) {
            multiply<isa>(work.tiles.get() + at * conv.row(), conv.row(), depth, weight + c,
                          work.products.get() + at * kPanel + c);
          }
        }
      }
      const int64_t phase = panel / panels, channel = panel % panels * kPanel;
      const int64_t width = std::min(kPanel, conv.to.channels - channel);
      if (conv.to.step == 2) {
        write_pixels<isa, 2>(conv, first, tiles, phase, channel, width, work);
      } else {
        write_pixels<isa, 3>(conv, first, tiles, phase, channel, width, work);
      }
    }
  }
}
POLARITY_ISA_VARIANTS(blocks, (const Convolution<float>& conv, int64_t begin, int64_t end),
                      (conv, begin, end))
POLARITY_ISA_VARIANTS(blocks, (const Convolution<double>& conv, int64_t begin, int64_t end),
                      (conv, begin, end))

// The weight in panels, so that it is read from end to end; zero behind the last channel.
template <typename T>
std::unique_ptr<T[]> packed(const T* weight, const TileShape& from, const TileShape& to) {
  const int64_t depth = from.depth(), panels = panels_of_phase(to);
  std::unique_ptr<T[]> packed(new T[to.phases() * panels * kPlaces * depth * kPanel]);
  parallel_for(to.phases() * panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      const int64_t channel = panel % panels * kPanel;
      const int64_t width = std::min(kPanel, to.channels - channel);
      const T* source = weight + panel / panels * to.channels + channel;
      T* target = packed.get() + panel * kPlaces * depth * kPanel;
      for (int64_t row = 0; row < kPlaces * depth; ++row, target += kPanel) {
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
int64_t block_of(int64_t depth) {
  constexpr int64_t kUnit = kRows<Isa::avx512>;  // and a multiple of the other sets'
  const int64_t fitting = kCacheBytes / static_cast<int64_t>(sizeof(T)) / (kPlaces * depth);
  return std::clamp<int64_t>(fitting / kUnit, 4, 16) * kUnit;
}

}  // namespace

template <typename T>
void winograd(const T* x, const T* weight, T* out, const TileShape& from, const TileShape& to) {
  if (from.tiles() * to.channels == 0) return;
  if (from.channels == 0) {  // empty sums
    std::fill_n(out, to.images * to.y.pixels * to.x.pixels * to.channels, T(0));
    return;
  }
  const std::unique_ptr<T[]> panels = packed(weight, from, to);
  const Convolution<T> conv{x, panels.get(), out, from, to, block_of<T>(from.depth())};
  parallel_for(divided_up(from.tiles(), conv.block), 1,
               [&](int64_t begin, int64_t end) { blocks(conv, begin, end); });
}

template void winograd<float>(const float*, const float*, float*, const TileShape&,
                              const TileShape&);
template void winograd<double>(const double*, const double*, double*, const TileShape&,
                               const TileShape&);

}  // namespace polarity::cpu
