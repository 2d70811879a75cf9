// The units of an image whose factor is not zero, and memory for rows of probes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "active_convolutions.h"

namespace polarity::cpu {

// Active units of one sample, pixel by pixel.
template <typename T>
struct ActiveUnits {
  std::vector<int32_t> begin;  // the first one of every pixel, and how many there are
  std::vector<int32_t> channel;
  std::vector<T> scale;

  int64_t count() const { return begin.back(); }

  void select(const ActiveImage& image, const ActiveFactor<T>& factor, int64_t sample) {
    begin.resize(static_cast<size_t>(image.pixels()) + 1);
    channel.resize(static_cast<size_t>(image.numbers()) + 1);  // one is written behind the last
    scale.resize(channel.size());
    const int64_t numbers = image.numbers();
    if (factor.bits != nullptr) {
      const uint8_t* const bits = factor.bits + sample * ((numbers + 7) / 8);
      gather(image, [&](int64_t pixel, int64_t c) {
        const int64_t n = image.place(pixel, c, factor.channels_last);
        return bits[n / 8] >> n % 8 & 1 ? factor.high : T(0);
      });
    } else if (factor.numbers != nullptr) {
      const T* const given = factor.numbers + sample * numbers;
      gather(image, [&](int64_t pixel, int64_t c) {
        return given[image.place(pixel, c, factor.channels_last)];
      });
    } else {
      gather(image, [](int64_t, int64_t) { return T(1); });
    }
  }

 private:
  template <class Scale>
  void gather(const ActiveImage& image, const Scale& scale_of) {
    int32_t found = 0;
    for (int64_t pixel = 0; pixel < image.pixels(); ++pixel) {
      begin[pixel] = found;
      for (int64_t c = 0; c < image.channels; ++c) {
        const T value = scale_of(pixel, c);
        channel[found] = static_cast<int32_t>(c);
        scale[found] = value;
        found += value != T(0) ? 1 : 0;
      }
    }
    begin[image.pixels()] = found;
  }
};

// Rows of probes, on boundaries of cache lines; they are lost where more are asked for.
template <typename T>
class ProbeRows {
 public:
  T* get(int64_t numbers) {
    constexpr int64_t kLine = sizeof(Line) / sizeof(T);
    const auto lines = static_cast<size_t>((numbers + kLine - 1) / kLine);
    if (lines > size_) {
      lines_.reset(new Line[lines]);
      size_ = lines;
    }
    return reinterpret_cast<T*>(lines_.get());
  }

 private:
  struct alignas(64) Line {
    T number[64 / sizeof(T)];
  };
  std::unique_ptr<Line[]> lines_;
  size_t size_ = 0;
};

}  // namespace polarity::cpu
