// Compiled with -ffp-contract=off: the bits must be those of the CUDA backend.
#include "weighted_draw.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <mutex>
#include <vector>

#include "cpu_isa.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Candidate {
  double key;
  int64_t row;
  bool operator<(const Candidate& other) const {  // is it drawn before the other?
    return key > other.key || (key == other.key && row < other.row);
  }
};

struct Search {
  const double* log_weights;
  DrawShape shape;
  double threshold;  // keys below it are of no interest
};

// Rows whose leading byte does not settle that their key is below the threshold.
struct Suspects {
  static constexpr int kEnough = 512;  // to work out their keys together
  uint64_t place[kEnough + kDrawLine];
  uint32_t leading[kEnough + kDrawLine];
  double log_weight[kEnough + kDrawLine];
  int count = 0;
};

// ln((h + x) / 256) is at least this for every x >= 0: as a function of h, the exponent and
// mantissa of a float lie below log2. For h = 0 it is below the logarithm of any exponential
// number.
POLARITY_INLINE float least_log(uint32_t leading) {
  constexpr float kLn2 = 0.693147181f;
  constexpr float kSlack = 1e-4f;  // for the rounding of this and of what it is compared with
  const float number = static_cast<float>(static_cast<int32_t>(leading));
  int32_t bits;
  memcpy(&bits, &number, sizeof bits);
  return static_cast<float>(bits) * (kLn2 * 0x1p-23f) - (135.0f * kLn2 + kSlack);
}

// Adds the suspects among the rows of one line; true if a log-weight is NaN or +infinity.
POLARITY_INLINE bool look_at_line(const Search& search, uint64_t line, Suspects& found) {
  const DrawShape& shape = search.shape;
  const int64_t start = static_cast<int64_t>(line * kDrawLine - shape.offset);  // may be negative
  constexpr int64_t kRows = kDrawLine;
  double edge[kDrawLine];
  const double* log_weights = search.log_weights + start;
  if (start < 0 || start + kRows > shape.count) {
    for (int64_t i = 0; i < kRows; ++i) {
      const bool inside = start + i >= 0 && start + i < shape.count;
      edge[i] = inside ? search.log_weights[start + i] : -kInfinity;
    }
    log_weights = edge;
  }

  uint32_t words[4][kDrawCounters];
  for (int lane = 0; lane < kDrawCounters; ++lane) {
    const Philox4 random = leading_bytes(shape.seed, line, lane);
    for (int i = 0; i < 4; ++i) words[i][lane] = random.word[i];
  }
  int32_t bad = 0;
  for (int byte = 0; byte < 16; ++byte) {
    const double* group = log_weights + byte * kDrawCounters;
    uint32_t leading[kDrawCounters];
    int32_t suspect[kDrawCounters];
    int32_t any = 0;
    for (int lane = 0; lane < kDrawCounters; ++lane) {
      leading[lane] = words[byte / 4][lane] >> 8 * (byte % 4) & 0xff;
      const float margin = static_cast<float>(group[lane] - search.threshold);
      suspect[lane] = margin > least_log(leading[lane]);
      any |= suspect[lane];
      bad |= !(group[lane] < kInfinity);
    }
    if (!any) continue;
    for (int lane = 0; lane < kDrawCounters; ++lane) {
      found.place[found.count] =
          line * kDrawLine + static_cast<uint64_t>(byte * kDrawCounters + lane);
      found.leading[found.count] = leading[lane];
      found.log_weight[found.count] = group[lane];
      found.count += suspect[lane];
    }
  }
  return bad != 0;
}

POLARITY_INLINE void settle(const Search& search, Suspects& suspects,
                            std::vector<Candidate>& candidates) {
  double keys[Suspects::kEnough + kDrawLine];
  const uint64_t seed = search.shape.seed;
  for (int i = 0; i < suspects.count; ++i) {
    keys[i] = draw_key(seed, suspects.place[i], suspects.leading[i], suspects.log_weight[i]);
  }
  for (int i = 0; i < suspects.count; ++i) {
    const auto row = static_cast<int64_t>(suspects.place[i] - search.shape.offset);
    if (keys[i] >= search.threshold) candidates.push_back({keys[i], row});
  }
  suspects.count = 0;
}

// Adds the rows of lines first .. last with a key at or above the threshold; true if a log-weight
// is NaN or +infinity.
template <Isa isa>
POLARITY_INLINE void look_body(const Search& search, uint64_t first, uint64_t last,
                               std::vector<Candidate>& candidates, bool& bad) {
  Suspects suspects;
  for (uint64_t line = first; line < last; ++line) {
    bad |= look_at_line(search, line, suspects);
    if (suspects.count >= Suspects::kEnough) settle(search, suspects, candidates);
  }
  settle(search, suspects, candidates);
}
POLARITY_ISA_VARIANTS(look,
                      (const Search& search, uint64_t first, uint64_t last,
                       std::vector<Candidate>& candidates, bool& bad),
                      (search, first, last, candidates, bad))

struct Found {
  std::vector<Candidate> candidates;  // in no order
  bool bad = false;
};

Found look_everywhere(const Search& search) {
  constexpr int64_t kGrain = 64;  // lines
  const DrawShape& shape = search.shape;
  const uint64_t first = shape.offset / kDrawLine;
  const uint64_t end = shape.offset + static_cast<uint64_t>(shape.count);
  const int64_t lines = static_cast<int64_t>((end + kDrawLine - 1) / kDrawLine - first);
  Found all;
  std::mutex mutex;
  parallel_for(lines, kGrain, [&](int64_t begin, int64_t last) {
    Found mine;
    look(search, first + static_cast<uint64_t>(begin), first + static_cast<uint64_t>(last),
         mine.candidates, mine.bad);
    const std::lock_guard<std::mutex> lock(mutex);
    all.candidates.insert(all.candidates.end(), mine.candidates.begin(), mine.candidates.end());
    all.bad |= mine.bad;
  });
  return all;
}

// Keys of `count` rows spread evenly over the whole.
template <Isa isa>
POLARITY_INLINE void sample_keys_body(const Search& search, int64_t count, double* keys) {
  const DrawShape& shape = search.shape;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = i * (shape.count / count);
    const uint64_t place = shape.offset + static_cast<uint64_t>(row);
    keys[i] = draw_key(shape.seed, place, leading_byte(shape.seed, place), search.log_weights[row]);
  }
}
POLARITY_ISA_VARIANTS(sample_keys, (const Search& search, int64_t count, double* keys),
                      (search, count, keys))

// A number that the key of the last row drawn probably reaches: a quantile of the sample, four
// standard errors below the one wanted.
double likely_threshold(const Search& search) {
  const DrawShape& shape = search.shape;
  const int64_t sample = std::min<int64_t>(shape.count / 16, 1 << 14);
  const double expected = static_cast<double>(sample) * static_cast<double>(shape.draws) /
                          static_cast<double>(shape.count);
  const auto rank = static_cast<int64_t>(expected + 4.0 * std::sqrt(expected) + 8.0);
  if (rank >= sample) return -kInfinity;
  std::vector<double> keys(static_cast<size_t>(sample));
  sample_keys(search, sample, keys.data());
  std::replace_if(keys.begin(), keys.end(), [](double key) { return std::isnan(key); }, -kInfinity);
  std::nth_element(keys.begin(), keys.begin() + rank, keys.end(), std::greater<double>());
  return keys[static_cast<size_t>(rank)];
}

}  // namespace

void weighted_draw(const double* log_weights, const DrawShape& shape, int64_t* rows,
                   DrawStatus* status) {
  Search search{log_weights, shape, -kInfinity};
  search.threshold = shape.draws > 0 ? likely_threshold(search) : kInfinity;
  Found found = look_everywhere(search);
  const auto enough = [&] { return static_cast<int64_t>(found.candidates.size()) >= shape.draws; };
  if (!found.bad && !enough() && search.threshold > -kInfinity) {
    search.threshold = -kInfinity;  // rare: the threshold was too high
    found = look_everywhere(search);
  }
  status->bad = -1;
  if (found.bad) {
    status->bad = std::find_if(log_weights, log_weights + shape.count,
                               [](double x) { return !(x < kInfinity); }) -
                  log_weights;
  }
  status->drawn = std::min(shape.draws, static_cast<int64_t>(found.candidates.size()));
  if (found.bad || !enough() || shape.draws == 0) return;
  const auto begin = found.candidates.begin(), end = begin + shape.draws;
  std::nth_element(begin, end - 1, found.candidates.end());
  std::sort(begin, end);
  std::transform(begin, end, rows, [](const Candidate& candidate) { return candidate.row; });
}

}  // namespace polarity::cpu
