// Convolutions one behind the other, of the tangents of one sample at a time and of its active
// units alone: behind a ReLU all tangents of a sample are zero at the same units, most of them
// often. What is zero is neither multiplied nor computed.
//
// A layer goes from cell to cell. A cell is a pixel of results or, of a transposed convolution
// whose kernel is a multiple of its stride, the stride x stride pixels that see the same pixels
// before it: its columns are the channels of all of them.
#pragma once

#include <cstdint>
#include <vector>

namespace polarity {

struct ActiveImage {
  int64_t channels, y, x;

  int64_t pixels() const { return y * x; }
  int64_t numbers() const { return channels * y * x; }
  int64_t place(int64_t pixel, int64_t channel, bool channels_last) const {
    return channels_last ? pixel * channels + channel : channel * pixels() + pixel;
  }
};

// What an image is multiplied by: bits as of mask_tangents, 0 or `high`; else numbers; or neither.
template <typename T>
struct ActiveFactor {
  const uint8_t* bits;
  const T* numbers;
  T high;
  bool channels_last;  // of the order of either
};

// Along one of the axes.
struct ActiveAxis {
  int64_t taps, stride, padding, phases;
  bool transposed;

  // The first cell and the last of `size` pixels.
  int64_t first_cell() const { return phases > 1 ? padding / phases : 0; }
  int64_t last_cell(int64_t size) const {
    return phases > 1 ? (size - 1 + padding) / phases : size - 1;
  }
  // The pixel of results that is a phase of a cell; may lie beyond the border.
  int64_t pixel(int64_t cell, int64_t phase) const {
    return phases > 1 ? phases * cell + phase - padding : cell;
  }
  // The pixel that a tap of a cell sees; may lie beyond the border, as it does where there is none.
  int64_t input(int64_t cell, int64_t tap) const {
    if (!transposed) return cell * stride - padding + tap;
    if (phases > 1) return cell - tap;
    const int64_t place = cell + padding - tap;
    return place % stride == 0 ? place / stride : -1;
  }
};

template <typename T>
struct ActiveConvolution {
  const T* weight;  // [y.taps, x.taps, channels before, y.phases, x.phases, channels behind]
  ActiveAxis y, x;
};

template <typename T>
struct ActiveChain {
  const T* x;  // of one sample an image in one piece
  T* out;      // [probes, batch, numbers of an image]
  int64_t probes, batch;
  int64_t x_probe, x_batch;  // strides; a batch stride of zero: all samples have the same
  bool x_channels_last, out_channels_last;
  std::vector<ActiveImage> images;       // before the first convolution, and behind each
  std::vector<ActiveFactor<T>> factors;  // of these
  std::vector<ActiveConvolution<T>> convolutions;
};

namespace cpu {
template <typename T>
void active_convolutions(const ActiveChain<T>& chain);
}  // namespace cpu
}  // namespace polarity
