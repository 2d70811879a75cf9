// Memory: past its end, not aligned, not written yet, not there yet, too much of it.
#include <sys/mman.h>

#include <memory>

#include "csrc/device/async_copy.cuh"
#include "program.h"

namespace polarity::programs {
namespace {

constexpr int kThreads = 64;
POLARITY_DEVICE int thread() { return static_cast<int>(threadIdx.x); }

template <bool wrong>
POLARITY_GLOBAL void double_kernel(float* x, int64_t count) {
  const int64_t i = device::thread_index();
  if (wrong ? i <= count : i < count) x[i] *= 2;
}

PROGRAM(global_off_by_one, wrong) {
  const std::unique_ptr<float[]> x(new float[100]);
  for (int i = 0; i < 100; ++i) x[i] = 1;
  launch(wrong ? double_kernel<true> : double_kernel<false>, 2, kThreads, x.get(), int64_t{100});
  return x[0] == 2 && x[99] == 2;
}

template <bool wrong>
POLARITY_GLOBAL void shared_write_kernel(float* out) {
  SHARED_ARRAY(float, staged, kThreads);
  staged[thread() + (wrong ? 1 : 0)] = 1;
  device::sync_block();
  out[thread()] = wrong && thread() == 0 ? 1 : staged[thread()];
}

PROGRAM(shared_off_by_one_write, wrong) {
  std::vector<float> out(kThreads);
  launch(wrong ? shared_write_kernel<true> : shared_write_kernel<false>, 1, kThreads, out.data());
  return out == std::vector<float>(kThreads, 1.0f);
}

template <bool wrong>
POLARITY_GLOBAL void shared_read_kernel(float* out) {
  SHARED_ARRAY(float, staged, kThreads);
  staged[thread()] = 1;
  device::sync_block();
  out[thread()] = staged[thread() + (wrong ? 1 : 0)];
}

PROGRAM(shared_off_by_one_read, wrong) {
  std::vector<float> out(kThreads);
  launch(wrong ? shared_read_kernel<true> : shared_read_kernel<false>, 1, kThreads, out.data());
  return out == std::vector<float>(kThreads, 1.0f);
}

struct alignas(16) Four {
  float value[4];
};

POLARITY_GLOBAL void vector_kernel(const float* x, float* out) {
  const Four four = reinterpret_cast<const Four*>(x)[thread()];
  for (int i = 0; i < 4; ++i) out[4 * thread() + i] = four.value[i];
}

PROGRAM(misaligned_vector_load, wrong) {
  alignas(16) static float x[4 * kThreads + 4] = {};
  std::vector<float> out(4 * kThreads);
  launch(vector_kernel, 1, kThreads, x + (wrong ? 1 : 0), out.data());
  return out == std::vector<float>(4 * kThreads);
}

template <bool wrong>
POLARITY_GLOBAL void uninitialised_kernel(const float* x, float* out) {
  SHARED_ARRAY(float, staged, 2 * kThreads);
  staged[thread()] = x[thread()];
  if (!wrong) staged[kThreads + thread()] = 0;
  device::sync_block();
  out[thread()] = staged[thread()] + staged[2 * kThreads - 1 - thread()];
}

PROGRAM(uninitialised_shared, wrong) {
  const std::vector<float> x = counting(kThreads);
  std::vector<float> out(kThreads);
  launch(wrong ? uninitialised_kernel<true> : uninitialised_kernel<false>, 1, kThreads, x.data(),
         out.data());
  return out == x;
}

// Wrong, but not in its result: the numbers that nobody wrote are read and then not used.
template <bool wrong>
POLARITY_GLOBAL void unused_kernel(const float* x, float* out) {
  SHARED_ARRAY(float, staged, 2 * kThreads);
  staged[thread()] = x[thread()];
  if (!wrong) staged[kThreads + thread()] = 1;
  device::sync_block();
  const float other = staged[kThreads + thread()];
  out[thread()] = other > 2 ? other : staged[thread()];
}

PROGRAM(uninitialised_shared_unused, wrong) {
  const std::vector<float> x = counting(kThreads);
  std::vector<float> out(kThreads);
  launch(wrong ? unused_kernel<true> : unused_kernel<false>, 1, kThreads, x.data(), out.data());
  return out == x;
}

template <bool wrong>
POLARITY_GLOBAL void pipeline_kernel(const float* x, float* out, int rounds) {
  SHARED_ARRAY(float, staged, 2 * 4 * kThreads);
  const auto fetch = [&](int64_t round) {
    device::copy_async(staged + (round % 2 * kThreads + thread()) * 4,
                       x + (round * kThreads + thread()) * 4);
    device::copy_async_commit();
  };
  fetch(0);
  float sum = 0;
  for (int round = 0; round < rounds; ++round) {
    if (round + 1 < rounds) {
      fetch(round + 1);
      if (!wrong) device::copy_async_wait<1>();
    } else {
      device::copy_async_wait<0>();
    }
    device::sync_block();
    for (int i = 0; i < 4; ++i)
      sum += staged[(round % 2 * kThreads + kThreads - 1 - thread()) * 4 + i];
    device::sync_block();  // before the next fetch writes over it
  }
  out[thread()] = sum;
}

PROGRAM(missing_async_wait, wrong) {
  constexpr int kRounds = 5;
  auto* x = static_cast<float*>(std::aligned_alloc(16, kRounds * 4 * kThreads * sizeof(float)));
  std::fill_n(x, kRounds * 4 * kThreads, 1.0f);
  std::vector<float> out(kThreads);
  launch(wrong ? pipeline_kernel<true> : pipeline_kernel<false>, 1, kThreads, x, out.data(),
         kRounds);
  std::free(x);
  return out == std::vector<float>(kThreads, 4.0f * kRounds);
}

template <bool wrong>
POLARITY_GLOBAL void large_kernel(float* out) {
  SHARED_ARRAY(double, large, wrong ? 6400 : 6000);
  if (thread() == 0) large[5999] = 1;
  device::sync_block();
  out[thread()] = static_cast<float>(large[5999]);
}

PROGRAM(too_much_shared_memory, wrong) {
  std::vector<float> out(kThreads);
  launch(wrong ? large_kernel<true> : large_kernel<false>, 1, kThreads, out.data());
  return out == std::vector<float>(kThreads, 1.0f);
}

POLARITY_GLOBAL void dynamic_kernel(float* out, int count) {
  DYN_SHARED(float, staged);
  for (int i = thread(); i < count; i += kThreads) staged[i] = 1;
  device::sync_block();
  out[thread()] = staged[count - 1 - thread()];
}

PROGRAM(dynamic_shared_too_small, wrong) {
  constexpr int kCount = 20000;  // 80 kB, more than may be declared
  std::vector<float> out(kThreads);
  const size_t bytes = kCount * sizeof(float) - (wrong ? 4 : 0);
  device::launch_shared("program", dynamic_kernel, 1, kThreads, bytes, nullptr, out.data(), kCount);
  return out == std::vector<float>(kThreads, 1.0f);
}

// The last thread of 2^31 + 64: its index does not fit an int. Below the output lies memory that
// traps, as far down as a wrapped index reaches.
template <bool wrong>
POLARITY_GLOBAL void mark_kernel(unsigned char* out, int64_t count) {
  const int wrapped = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int64_t i = wrong ? wrapped : device::thread_index();
  if (i < count) out[i] = 1;
}

PROGRAM(index_overflow, wrong) {
  constexpr int64_t kBlock = 1024;
  constexpr int64_t kCount = (int64_t{1} << 31) + 64;
  constexpr int64_t kHalf = int64_t{1} << 32;
  void* memory =
      mmap(nullptr, 2 * kHalf, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  auto* out = static_cast<unsigned char*>(memory) + kHalf;
  mprotect(out, kCount, PROT_READ | PROT_WRITE);
#ifdef POLARITY_EMULATED
  emulator::run_last_blocks(1);
#endif
  launch(wrong ? mark_kernel<true> : mark_kernel<false>, (kCount + kBlock - 1) / kBlock, kBlock,
         out, kCount);
  return out[kCount - 1] == 1;
}

// The same in the host's arithmetic: the number of items is formed in int.
POLARITY_GLOBAL void nothing_kernel() {}

PROGRAM(launch_arithmetic_overflow, wrong) {
  volatile int rows = 70000, columns = 70000;
  // NOLINTNEXTLINE(bugprone-implicit-widening-of-multiplication-result): the mistake itself
  const int64_t items = wrong ? rows * columns : int64_t{rows} * columns;
  launch(nothing_kernel, device::grid_for(items, kThreads), 1);
  return device::grid_for(items, kThreads) == 65536;
}

PROGRAM(block_too_large, wrong) {
  launch(nothing_kernel, 1, wrong ? 1025 : 1024);
  return true;
}

PROGRAM(empty_grid, wrong) {
  launch(nothing_kernel, wrong ? 0 : 1, kThreads);
  return true;
}

}  // namespace
}  // namespace polarity::programs
