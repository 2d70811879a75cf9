#include "active_convolutions.h"

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "active_units.h"
#include "cpu_isa.h"
#include "cpu_vector.h"
#include "parallel.h"
#include "transpose.h"

namespace polarity::cpu {
namespace {

// Accumulators of the micro-kernel: columns by vectors of probes, as many as registers hold. A
// column is where its number lies in a row of the weight, which takes a register of the other kind.
template <Isa isa>
constexpr int kVectors = isa == Isa::avx512 ? 4 : 2;
template <Isa isa>
constexpr int columns_of(int vectors) {
  if (isa == Isa::avx512) return vectors == 4 ? 6 : 8;
  return vectors == 1 ? 8 : 5;
}

// Terms between the one that is multiplied and the one whose weight is asked for.
constexpr int64_t kAhead = 8;

// A row of the weight, and the unit that it is multiplied by.
struct Term {
  int32_t row, unit;
};

// One of the numbers that a cell yields.
template <typename T>
struct Column {
  int32_t place;   // in a row of the weight
  int32_t target;  // row of probes
  T scale;
};

// The first `count` of them count.
template <typename T>
struct List {
  std::vector<T> items;
  int64_t count = 0;

  T* room_for(int64_t most) {
    if (static_cast<int64_t>(items.size()) < most) items.resize(static_cast<size_t>(most));
    return items.data();
  }
};

template <typename T>
struct Workspace {
  std::vector<ActiveUnits<T>> units;  // of every image
  ProbeRows<T> rows[2];               // active units before and behind a convolution
  ProbeRows<T> source, result;        // all units of the first image and of the last
  List<Term> terms;                   // of a cell
  List<Column<T>> columns;
};

// Probes that go through the convolutions together.
struct Part {
  int64_t first, count, lanes;  // rows of probes have `lanes` numbers
};

// kColumns columns of a cell: its terms added up.
template <Isa isa, int kColumns, int vectors, typename T>
POLARITY_INLINE void multiply(const List<Term>& terms, const T* weight, int64_t width,
                              const T* rows, int64_t lanes, const Column<T>* columns, T* out) {
  using V = Vector<isa, T>;
  constexpr int kWidth = VectorOf<isa, T>::kWidth;
  int64_t place[kColumns];
  for (int c = 0; c < kColumns; ++c) place[c] = columns[c].place;
  V sum[kColumns][vectors] = {};
  const Term* const end = terms.items.data() + terms.count;
  for (const Term* at = terms.items.data(); at != end; ++at) {
    const Term term = *at;
    const T* const row = weight + term.row * width;
    if constexpr (vectors > 2) {  // with less to multiply it takes longer than it saves
      const T* const later = weight + at[kAhead].row * width;
      __builtin_prefetch(later + place[0]);
      __builtin_prefetch(later + place[kColumns - 1]);
    }
    const T* const probes = rows + term.unit * lanes;
    V probe[vectors];
    for (int v = 0; v < vectors; ++v) {
      probe[v] = *reinterpret_cast<const V*>(probes + v * kWidth);
    }
    for (int c = 0; c < kColumns; ++c) {
      for (int v = 0; v < vectors; ++v) sum[c][v] += row[place[c]] * probe[v];
    }
  }
  for (int c = 0; c < kColumns; ++c) {
    T* const to = out + columns[c].target * lanes;
    for (int v = 0; v < vectors; ++v) {
      *reinterpret_cast<V*>(to + v * kWidth) = columns[c].scale * sum[c][v];
    }
  }
}

// Calls body(std::integral_constant<int, count>) for a count of 1 .. most.
template <int most, class Body>
POLARITY_INLINE void for_count(int64_t count, const Body& body) {
  if constexpr (most > 1) {
    if (count < most) return for_count<most - 1>(count, body);
  }
  body(std::integral_constant<int, most>{});
}

// All columns of a cell, in equal parts.
template <Isa isa, typename T>
POLARITY_INLINE void multiply_cell(const Workspace<T>& work, const T* weight, int64_t width,
                                   const T* rows, int64_t lanes, T* out) {
  for_count<kVectors<isa>>(
      lanes / VectorOf<isa, T>::kWidth, [&](auto vectors) __attribute__((always_inline)) {
        constexpr int kMost = columns_of<isa>(decltype(vectors)::value);
        const int64_t count = work.columns.count, parts = (count + kMost - 1) / kMost;
        for (int64_t part = 0; part < parts; ++part) {
          const int64_t first = part * count / parts, last = (part + 1) * count / parts;
          for_count<kMost>(last - first, [&](auto columns) __attribute__((always_inline)) {
            multiply<isa, decltype(columns)::value, decltype(vectors)::value>(
                work.terms, weight, width, rows, lanes, work.columns.items.data() + first, out);
          });
        }
      });
}

bool is_inside(int64_t y, int64_t x, const ActiveImage& image) {
  return y >= 0 && y < image.y && x >= 0 && x < image.x;
}

// Convolution i, at one of its cells.
struct Cell {
  size_t i;
  int64_t y, x;
};

// The columns of a cell: active units behind it. Rows of the last image are in the order of
// results.
template <typename T>
void list_columns(const ActiveChain<T>& chain, Cell cell, Workspace<T>& work) {
  const ActiveConvolution<T>& conv = chain.convolutions[cell.i];
  const ActiveImage& image = chain.images[cell.i + 1];
  const ActiveUnits<T>& units = work.units[cell.i + 1];
  const bool is_last = cell.i + 1 == chain.convolutions.size();
  Column<T>* column = work.columns.room_for(conv.y.phases * conv.x.phases * image.channels);
  for (int64_t a = 0; a < conv.y.phases; ++a) {
    for (int64_t b = 0; b < conv.x.phases; ++b) {
      const int64_t y = conv.y.pixel(cell.y, a), x = conv.x.pixel(cell.x, b);
      if (!is_inside(y, x, image)) continue;
      const int64_t pixel = y * image.x + x, phase = (a * conv.x.phases + b) * image.channels;
      for (int32_t k = units.begin[pixel]; k < units.begin[pixel + 1]; ++k) {
        const int64_t channel = units.channel[k];
        const int64_t target =
            is_last ? image.place(pixel, channel, chain.out_channels_last) : int64_t(k);
        *column++ = {static_cast<int32_t>(phase + channel), static_cast<int32_t>(target),
                     units.scale[k]};
      }
    }
  }
  work.columns.count = column - work.columns.items.data();
}

// The terms of a cell: active units before it that its taps see.
template <typename T>
void list_terms(const ActiveChain<T>& chain, Cell cell, Workspace<T>& work) {
  const ActiveConvolution<T>& conv = chain.convolutions[cell.i];
  const ActiveImage& image = chain.images[cell.i];
  const ActiveUnits<T>& units = work.units[cell.i];
  Term* term = work.terms.room_for(conv.y.taps * conv.x.taps * image.channels + kAhead);
  for (int64_t a = 0; a < conv.y.taps; ++a) {
    for (int64_t b = 0; b < conv.x.taps; ++b) {
      const int64_t y = conv.y.input(cell.y, a), x = conv.x.input(cell.x, b);
      if (!is_inside(y, x, image)) continue;
      const int64_t pixel = y * image.x + x;
      const auto tap = static_cast<int32_t>((a * conv.x.taps + b) * image.channels);
      for (int32_t k = units.begin[pixel]; k < units.begin[pixel + 1]; ++k) {
        *term++ = {tap + units.channel[k], k};
      }
    }
  }
  work.terms.count = term - work.terms.items.data();
}

// Rows of active units behind convolution i (of all units behind the last one, in the order of
// results) from those before it.
template <Isa isa, typename T>
POLARITY_INLINE void convolve(const ActiveChain<T>& chain, size_t i, const T* rows, int64_t lanes,
                              Workspace<T>& work, T* out) {
  const ActiveConvolution<T>& conv = chain.convolutions[i];
  const ActiveImage& image = chain.images[i + 1];
  const int64_t width = conv.y.phases * conv.x.phases * image.channels;
  for (int64_t y = conv.y.first_cell(); y <= conv.y.last_cell(image.y); ++y) {
    for (int64_t x = conv.x.first_cell(); x <= conv.x.last_cell(image.x); ++x) {
      list_columns(chain, {i, y, x}, work);
      if (work.columns.count == 0) continue;
      list_terms(chain, {i, y, x}, work);
      multiply_cell<isa>(work, conv.weight, width, rows, lanes, out);
    }
  }
}

// All units of the first image of a sample, as rows of probes; lanes behind the last probe are
// zero.
template <Isa isa, typename T>
POLARITY_INLINE void read_source(const ActiveChain<T>& chain, int64_t sample, Part part,
                                 T* source) {
  const int64_t numbers = chain.images[0].numbers();
  const T* const x = chain.x + part.first * chain.x_probe + sample * chain.x_batch;
  transpose<isa>(x, chain.x_probe, part.count, numbers, source, part.lanes);
  for (int64_t n = 0; n < numbers && part.count < part.lanes; ++n) {
    std::fill(source + n * part.lanes + part.count, source + (n + 1) * part.lanes, T(0));
  }
}

// The active ones among them, times their factors.
template <typename T>
POLARITY_INLINE void gather_rows(const ActiveChain<T>& chain, const ActiveUnits<T>& units,
                                 const T* source, int64_t lanes, T* rows) {
  const ActiveImage& image = chain.images[0];
  for (int64_t pixel = 0; pixel < image.pixels(); ++pixel) {
    for (int32_t k = units.begin[pixel]; k < units.begin[pixel + 1]; ++k) {
      const T* const from =
          source + image.place(pixel, units.channel[k], chain.x_channels_last) * lanes;
      for (int64_t l = 0; l < lanes; ++l) rows[k * lanes + l] = units.scale[k] * from[l];
    }
  }
}

// Some probes of one sample, of which `source` has the first image.
template <Isa isa, typename T>
POLARITY_INLINE void run_sample(const ActiveChain<T>& chain, int64_t sample, Part part,
                                const T* source, Workspace<T>& work) {
  const size_t layers = chain.convolutions.size();
  for (size_t i = 0; i <= layers; ++i) {
    work.units[i].select(chain.images[i], chain.factors[i], sample);
  }
  T* rows = work.rows[0].get(work.units[0].count() * part.lanes);
  gather_rows(chain, work.units[0], source, part.lanes, rows);
  for (size_t i = 0; i + 1 < layers; ++i) {
    T* const next = work.rows[(i + 1) % 2].get(work.units[i + 1].count() * part.lanes);
    convolve<isa>(chain, i, rows, part.lanes, work, next);
    rows = next;
  }
  const int64_t numbers = chain.images[layers].numbers();
  T* const result = work.result.get(numbers * part.lanes);
  if (work.units[layers].count() < numbers) std::fill_n(result, numbers * part.lanes, T(0));
  convolve<isa>(chain, layers - 1, rows, part.lanes, work, result);
  T* const out = chain.out + (part.first * chain.batch + sample) * numbers;
  transpose<isa>(result, part.lanes, numbers, part.count, out, chain.batch * numbers);
}

// Tasks begin .. end: the samples of one part of the probes, then those of the next.
template <Isa isa, typename T>
POLARITY_INLINE void parts_body(const ActiveChain<T>& chain, int64_t begin, int64_t end) {
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth, kMost = kVectors<isa> * kWidth;
  Workspace<T> work;
  work.units.resize(chain.images.size());
  for (int64_t task = begin; task < end; ++task) {
    const int64_t first = task / chain.batch * kMost, sample = task % chain.batch;
    const int64_t count = std::min(kMost, chain.probes - first);
    const Part part{first, count, (count + kWidth - 1) / kWidth * kWidth};
    T* const source = work.source.get(chain.images[0].numbers() * part.lanes);
    if (chain.x_batch != 0 || sample == 0 || task == begin) {
      read_source<isa>(chain, sample, part, source);
    }
    run_sample<isa>(chain, sample, part, source, work);
  }
}
POLARITY_ISA_VARIANTS(parts, (const ActiveChain<float>& chain, int64_t begin, int64_t end),
                      (chain, begin, end))
POLARITY_ISA_VARIANTS(parts, (const ActiveChain<double>& chain, int64_t begin, int64_t end),
                      (chain, begin, end))

template <typename T>
int64_t most_together() {
  switch (isa_in_use().load(std::memory_order_relaxed)) {
    case Isa::avx512: return kVectors<Isa::avx512> * VectorOf<Isa::avx512, T>::kWidth;
    case Isa::avx2: return kVectors<Isa::avx2> * VectorOf<Isa::avx2, T>::kWidth;
    default: return kVectors<Isa::baseline> * VectorOf<Isa::baseline, T>::kWidth;
  }
}

}  // namespace

template <typename T>
void active_convolutions(const ActiveChain<T>& chain) {
  if (chain.probes * chain.batch * chain.images.back().numbers() == 0) return;
  const int64_t most = most_together<T>();
  parallel_for((chain.probes + most - 1) / most * chain.batch, 1,
               [&](int64_t begin, int64_t end) { parts(chain, begin, end); });
}

template void active_convolutions<float>(const ActiveChain<float>&);
template void active_convolutions<double>(const ActiveChain<double>&);

}  // namespace polarity::cpu
