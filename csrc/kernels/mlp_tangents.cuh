#pragma once

#include "../device/portability.cuh"
#include "mlp_tangents.h"

namespace polarity {

constexpr int kMlpBlock = 256;
constexpr int kMlpWarps = kMlpBlock / 32;
constexpr int kMlpUnits = 128;  // of a layer at a time: four for each lane
constexpr int kMlpUnitsEach = kMlpUnits / 32;
constexpr int kMlpDepth = 16;  // inputs whose weights are staged together

// Where things are in shared memory. The units in use of layer i are a row of `probes` numbers
// each, in state[i % 2]; their places in the layer are in index[i % 2].
struct MlpShared {
  int64_t state[2], index[2], weights, counts, bytes;  // offsets, and the size of it all

  template <typename T>
  static MlpShared of(const MlpChain<T>& chain, int probes) {
    int64_t widest[2] = {0, 0};
    for (int i = 0; i < chain.layers; ++i) {
      if (chain.width[i] > widest[i % 2]) widest[i % 2] = chain.width[i];
    }
    MlpShared shared{};
    const auto take = [&](int64_t count, size_t size) {
      const int64_t at = shared.bytes;
      shared.bytes += (count * static_cast<int64_t>(size) + 15) / 16 * 16;
      return at;
    };
    for (int k = 0; k < 2; ++k) {
      shared.state[k] = take(widest[k] * row_length(probes), sizeof(T));
      shared.index[k] = take(widest[k], sizeof(int));
    }
    shared.weights = take(kMlpDepth * kMlpUnits, sizeof(T));
    shared.counts = take(kMlpWarps, sizeof(int));
    return shared;
  }

  // Length of a row of a state: four more than used, so that the lanes of a warp write to
  // different banks.
  POLARITY_HOST_DEVICE static int row_length(int probes) { return probes + 4; }
};

// The places of the numbers that are not zero, in ascending order, and how many there are. All
// threads of the block call it.
template <typename T>
POLARITY_DEVICE int mlp_select(const T* factor, int width, int* index, int* counts) {
  const int thread = static_cast<int>(threadIdx.x);
  int found = 0;
  for (int base = 0; base < width; base += kMlpBlock) {
    const int i = base + thread;
    const bool active = i < width && (factor == nullptr || factor[i] != T(0));
    const uint32_t lanes = device::ballot(active);
    if (device::lane() == 0) counts[thread / 32] = device::count_bits(lanes);
    device::sync_block();
    int before = found;
    for (int warp = 0; warp < kMlpWarps; ++warp) {
      if (warp < thread / 32) before += counts[warp];
      found += counts[warp];
    }
    const uint32_t earlier = (1u << device::lane()) - 1u;
    if (active) index[before + device::count_bits(lanes & earlier)] = i;
    device::sync_block();
  }
  return found;
}

// One block takes kProbes probes of one sample through all layers; between them nothing leaves
// shared memory. Of each layer only the units with a factor other than zero are formed. A warp has
// kProbes / 8 of the probes, a lane four units.
template <typename T, int kProbes>
POLARITY_GLOBAL void mlp_tangents_kernel(MlpChain<T> chain, MlpShared shared) {
  constexpr int kEach = kProbes / kMlpWarps;
  struct alignas(kEach * sizeof(T) > 16 ? 16 : kEach * sizeof(T)) Probes {
    T value[kEach];
  };
  DYN_SHARED(unsigned char, memory);
  const int row = MlpShared::row_length(kProbes);
  T* const weights = reinterpret_cast<T*>(memory + shared.weights);
  int* const counts = reinterpret_cast<int*>(memory + shared.counts);

  const int thread = static_cast<int>(threadIdx.x);
  const int lane = device::lane();
  const int mine = thread / 32 * kEach;  // the first of this warp's probes
  const int64_t b = blockIdx.x % chain.batch;
  const int64_t first = blockIdx.x / chain.batch * kProbes;
  const int probes =
      chain.probes - first < kProbes ? static_cast<int>(chain.probes - first) : kProbes;

  const T* factor = chain.factor[0] ? chain.factor[0] + b * chain.width[0] : nullptr;
  int* index = reinterpret_cast<int*>(memory + shared.index[0]);
  int inputs = mlp_select(factor, static_cast<int>(chain.width[0]), index, counts);
  {
    T* state = reinterpret_cast<T*>(memory + shared.state[0]);
    for (int item = thread; item < inputs * kProbes; item += kMlpBlock) {
      const int unit = item % inputs;
      const int probe = item / inputs;
      T value = 0;
      if (probe < probes) {
        value = chain.v[(first + probe) * chain.v_probe + b * chain.v_batch + index[unit]];
        if (factor != nullptr) value *= factor[index[unit]];
      }
      state[unit * row + probe] = value;
    }
  }
  device::sync_block();

  for (int layer = 0; layer < chain.layers; ++layer) {
    const bool last = layer + 1 == chain.layers;
    const int width = static_cast<int>(chain.width[layer + 1]);
    const T* matrix = chain.matrix[layer];
    const T* from = reinterpret_cast<const T*>(memory + shared.state[layer % 2]);
    T* to = reinterpret_cast<T*>(memory + shared.state[(layer + 1) % 2]);
    const int* place = reinterpret_cast<const int*>(memory + shared.index[layer % 2]);
    int* next = reinterpret_cast<int*>(memory + shared.index[(layer + 1) % 2]);
    factor = chain.factor[layer + 1] ? chain.factor[layer + 1] + b * width : nullptr;
    const int outputs = last ? width : mlp_select(factor, width, next, counts);

    for (int start = 0; start < outputs; start += kMlpUnits) {
      T sum[kMlpUnitsEach][kEach] = {};
      for (int k = 0; k < inputs; k += kMlpDepth) {
        const int depth = inputs - k < kMlpDepth ? inputs - k : kMlpDepth;
        for (int item = thread; item < depth * kMlpUnits; item += kMlpBlock) {
          const int unit = start + item % kMlpUnits;
          T weight = 0;
          if (unit < outputs) {
            const int64_t at = static_cast<int64_t>(place[k + item / kMlpUnits]) * width;
            weight = matrix[at + (last ? unit : next[unit])];
          }
          weights[item] = weight;
        }
        device::sync_block();
#pragma unroll 4
        for (int d = 0; d < depth; ++d) {
          const Probes value = *reinterpret_cast<const Probes*>(from + (k + d) * row + mine);
#pragma unroll
          for (int u = 0; u < kMlpUnitsEach; ++u) {
            const T weight = weights[d * kMlpUnits + u * 32 + lane];
#pragma unroll
            for (int p = 0; p < kEach; ++p) sum[u][p] += weight * value.value[p];
          }
        }
        device::sync_block();
      }
#pragma unroll
      for (int u = 0; u < kMlpUnitsEach; ++u) {
        const int unit = start + u * 32 + lane;
        if (unit >= outputs) continue;
        const int i = last ? unit : next[unit];
        const T scale = factor != nullptr ? factor[i] : T(1);
        Probes result;
#pragma unroll
        for (int p = 0; p < kEach; ++p) result.value[p] = sum[u][p] * scale;
        if (!last) {
          *reinterpret_cast<Probes*>(to + unit * row + mine) = result;
          continue;
        }
#pragma unroll
        for (int p = 0; p < kEach; ++p) {
          if (mine + p >= probes) continue;
          chain.out[((first + mine + p) * chain.batch + b) * width + i] = result.value[p];
        }
      }
    }
    inputs = outputs;
    device::sync_block();
  }
}

}  // namespace polarity
