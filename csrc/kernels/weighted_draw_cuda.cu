// Compiled with -fmad=false: the bits must be those of the CPU backend.
#include "../device/launch.cuh"
#include "weighted_draw.cuh"

namespace polarity::cuda {

void weighted_draw(const double* log_weights, const DrawShape& shape, uint64_t* workspace,
                   int64_t* rows, DrawStatus* status, void* stream) {
  const int64_t blocks = draw_blocks(shape.count), padded = draw_padded(shape.draws);
  uint64_t* keys = workspace;
  auto* drawn = reinterpret_cast<DrawnRow*>(keys + shape.count);
  auto* tallies = reinterpret_cast<DrawTally*>(drawn + padded);
  auto* counts = reinterpret_cast<int64_t*>(tallies + blocks);
  auto* found = reinterpret_cast<uint64_t*>(counts + kDrawDigits * blocks);
  const auto grid = [](int64_t work) { return device::grid_for(work, kDrawBlock); };

  device::launch("weighted_draw (keys)", draw_keys_kernel, grid(shape.count / 16 + 32), kDrawBlock,
                 stream, log_weights, shape, keys);
  device::launch("weighted_draw (pad)", draw_pad_kernel, grid(padded - shape.draws), kDrawBlock,
                 stream, drawn, shape.draws, padded, found);
  for (int shift = 60; shift >= 0; shift -= 4) {
    device::launch("weighted_draw (count)", draw_count_kernel, blocks, kDrawBlock, stream, keys,
                   shape.count, shift, found, counts);
    device::launch("weighted_draw (choose)", draw_choose_kernel, 1, 32 * kDrawDigits, stream,
                   counts, blocks, shape.draws, shift, found);
  }
  device::launch("weighted_draw (tally)", draw_tally_kernel, blocks, kDrawBlock, stream, keys,
                 shape.count, found, tallies);
  device::launch("weighted_draw (collect)", draw_collect_kernel, blocks, kDrawBlock, stream, keys,
                 shape, found, tallies, drawn, status);
  for (int64_t run = 2; run <= padded; run *= 2) {
    for (int64_t distance = run / 2; distance > 0; distance /= 2) {
      device::launch("weighted_draw (sort)", draw_sort_kernel, grid(padded / 2), kDrawBlock, stream,
                     drawn, padded, run, distance);
    }
  }
  device::launch("weighted_draw (rows)", draw_rows_kernel, grid(shape.draws), kDrawBlock, stream,
                 drawn, shape.draws, rows);
}

}  // namespace polarity::cuda
