// Barriers and collectives: left out, met by some threads only, asked of lanes that never come.
#include "csrc/device/reduce.cuh"
#include "program.h"

namespace polarity::programs {
namespace {

constexpr int kThreads = 96;
POLARITY_DEVICE int thread() { return static_cast<int>(threadIdx.x); }

template <bool wrong>
POLARITY_GLOBAL void reverse_kernel(const float* x, float* out) {
  SHARED_ARRAY(float, staged, kThreads);
  staged[thread()] = x[thread()];
  if (!wrong) device::sync_block();
  out[thread()] = staged[kThreads - 1 - thread()];
}

PROGRAM(missing_sync_block, wrong) {
  const std::vector<float> x = counting(kThreads);
  std::vector<float> out(kThreads), expected(x.rbegin(), x.rend());
  launch(wrong ? reverse_kernel<true> : reverse_kernel<false>, 1, kThreads, x.data(), out.data());
  return out == expected;
}

// The second barrier of a loop, whose absence lets the fast overwrite what the slow still read.
template <bool wrong>
POLARITY_GLOBAL void rounds_kernel(float* out) {
  SHARED_ARRAY(float, turn, 1);
  float sum = 0;
  for (int round = 0; round < 5; ++round) {
    if (thread() == round) turn[0] = static_cast<float>(round);
    device::sync_block();
    sum += turn[0];
    if (!wrong) device::sync_block();
  }
  out[thread()] = sum;
}

PROGRAM(missing_second_sync_block, wrong) {
  std::vector<float> out(kThreads), expected(kThreads, 10.0f);
  launch(wrong ? rounds_kernel<true> : rounds_kernel<false>, 1, kThreads, out.data());
  return out == expected;
}

template <bool wrong>
POLARITY_GLOBAL void swap_kernel(const float* x, float* out) {
  SHARED_ARRAY(float, staged, kThreads);
  staged[thread()] = x[thread()];
  if (!wrong) device::sync_warp();
  out[thread()] = staged[thread() ^ 1];
}

PROGRAM(missing_sync_warp, wrong) {
  const std::vector<float> x = counting(kThreads);
  std::vector<float> out(kThreads), expected(kThreads);
  for (size_t i = 0; i < kThreads; ++i) expected[i] = x[i ^ 1];
  launch(wrong ? swap_kernel<true> : swap_kernel<false>, 1, kThreads, x.data(), out.data());
  return out == expected;
}

template <bool wrong>
POLARITY_GLOBAL void divergent_kernel(float* out) {
  if (wrong && thread() < 32) {
    device::sync_block();
  } else {
    device::sync_block();
  }
  out[thread()] = 1;
}

PROGRAM(divergent_barrier, wrong) {
  std::vector<float> out(kThreads);
  launch(wrong ? divergent_kernel<true> : divergent_kernel<false>, 1, kThreads, out.data());
  return out == std::vector<float>(kThreads, 1.0f);
}

template <bool wrong>
POLARITY_GLOBAL void early_exit_kernel(float* out) {
  if (wrong && thread() >= 90) return;
  device::sync_block();
  if (thread() < 90) out[thread()] = 1;
}

PROGRAM(barrier_after_exit, wrong) {
  std::vector<float> out(90);
  launch(wrong ? early_exit_kernel<true> : early_exit_kernel<false>, 1, kThreads, out.data());
  return out == std::vector<float>(90, 1.0f);
}

template <bool wrong>
POLARITY_GLOBAL void half_warp_kernel(float* out) {
  if (thread() < 16) {
    const uint32_t mask = wrong ? device::kAllLanes : 0x0000ffffu;
    out[thread()] = static_cast<float>(device::shuffle(thread(), 3, mask));
  }
}

PROGRAM(lanes_that_never_come, wrong) {
  std::vector<float> out(16);
  launch(wrong ? half_warp_kernel<true> : half_warp_kernel<false>, 1, 32, out.data());
  return out == std::vector<float>(16, 3.0f);
}

template <bool wrong>
POLARITY_GLOBAL void outside_mask_kernel(float* out) {
  const int source = wrong ? 20 : 10;
  if (thread() < 16) out[thread()] = static_cast<float>(device::shuffle(thread(), source, 0xffffu));
}

PROGRAM(shuffle_from_outside_the_mask, wrong) {
  std::vector<float> out(16);
  launch(wrong ? outside_mask_kernel<true> : outside_mask_kernel<false>, 1, 32, out.data());
  return out == std::vector<float>(16, 10.0f);
}

template <bool wrong>
POLARITY_GLOBAL void not_in_mask_kernel(uint32_t* out) {
  const uint32_t mask = wrong || thread() < 8 ? 0xffu : 0xffffff00u;
  out[thread()] = device::ballot(thread() % 2 == 1, mask);
}

PROGRAM(lane_outside_its_mask, wrong) {
  std::vector<uint32_t> out(32), expected(32, 0xaaaaaa00u);
  std::fill_n(expected.begin(), 8, 0xaau);
  launch(wrong ? not_in_mask_kernel<true> : not_in_mask_kernel<false>, 1, 32, out.data());
  return out == expected;
}

template <bool wrong>
POLARITY_GLOBAL void sums_kernel(const float* x, float* out) {
  const float first = device::block_sum<kThreads>(x[device::thread_index()]);
  const float second = device::block_sum<kThreads>(2 * x[device::thread_index()]);
  if (thread() == kThreads - 1) {
    // Wrong: all blocks add to one number, and nothing keeps them apart.
    if (wrong)
      out[0] += second - first;
    else
      out[blockIdx.x] = second - first;
  }
}

PROGRAM(cross_block_add, wrong) {
  constexpr size_t kBlocks = 3;
  const std::vector<float> x = counting(kBlocks * kThreads);
  std::vector<float> out(kBlocks);
  launch(wrong ? sums_kernel<true> : sums_kernel<false>, kBlocks, kThreads, x.data(), out.data());
  float sum = 0;
  for (const float part : out) sum += part;
  return sum == kBlocks * kThreads * (kBlocks * kThreads - 1) / 2.0f;
}

// Wrong: blocks that are not neighbours write to one number.
template <bool wrong>
POLARITY_GLOBAL void marks_kernel(float* out) {
  if (thread() == 0) out[wrong ? blockIdx.x % 4 : blockIdx.x] = 1;
}

PROGRAM(distant_blocks, wrong) {
  std::vector<float> out(8), expected(8, 1.0f);
  launch(wrong ? marks_kernel<true> : marks_kernel<false>, 8, kThreads, out.data());
  return out == expected;
}

}  // namespace
}  // namespace polarity::programs
