// The operator in two parallel passes: pack every key block once, then work through the query blocks.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>

#include "attention/pack.h"
#include "attention/problem.h"
#include "attention/select.h"

namespace edgesparse {
namespace {

// Query blocks shorter than this are worked on several at a time, or handing out work would cost more
// than doing it.
constexpr int64_t kTokensPerItem = 64;
// Tasks of the attention pass: more than threads, fewer than items. Each takes items from a counter until
// none is left, so unlike heads keep all threads busy and a thread's scratch is allocated once.
constexpr size_t kTasks = 256;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Laps of a stopwatch that costs nothing while it is off.
class Clock {
 public:
  explicit Clock(bool on) : on_(on), start_(on ? now() : 0.0) {}
  double lap() {
    if (!on_) return 0.0;
    const double before = start_;
    start_ = now();
    return start_ - before;
  }

 private:
  bool on_;
  double start_;
};

struct Work {
  const Table& table;
  const Problem& problem;
  const Packed& packed;
  const Host& host;
  Timing* timing;
  int64_t groups_now = 0;  // (batch, key/value head) pairs of this pass
  size_t attend_items = 0;
  std::atomic<size_t> next_item{0};
  std::atomic<bool> out_of_memory{false};

  int64_t blocks_per_pack() const { return std::max<int64_t>(1, kTokensPerItem / problem.block_size); }
  int64_t pack_items() const { return (problem.key_blocks() + blocks_per_pack() - 1) / blocks_per_pack(); }
  int64_t query_items() const { return (problem.query_blocks() + blocks_per_pack() - 1) / blocks_per_pack(); }
};

// The blocks of one item of a packing pass. Heads lie side by side in a token's row, so the heads of a block
// follow each other: the other order walks over every page of the input once per head.
struct PackItem {
  PackItem(const Work& work, size_t index) {
    const int64_t step = work.blocks_per_pack(), groups = work.groups_now;
    group = work.packed.first_group + static_cast<int64_t>(index) % groups;
    first = static_cast<int64_t>(index) / groups * step;
    end = std::min(first + step, work.problem.key_blocks());
  }
  int64_t group, first, end;
};

void pack_item(void* data, size_t index) {
  Work& work = *static_cast<Work*>(data);
  const PackItem item(work, index);
  Clock clock(work.timing != nullptr);
  if (work.problem.int8)
    quantize_blocks(work.table, work.problem, work.packed, item.group, item.first, item.end);
  else
    pack_blocks(work.table, work.problem, work.packed, item.group, item.first, item.end);
  if (work.timing) work.timing->packing += clock.lap();
  if (work.problem.summaries && !work.problem.int8)
    summarize_blocks(work.table, work.problem, work.packed, item.group, item.first, item.end);
  if (work.timing) work.timing->summaries += clock.lap();
}

void shift_item(void* data, size_t index) {
  Work& work = *static_cast<Work*>(data);
  Clock clock(work.timing != nullptr);
  choose_shift(work.problem, work.packed, work.packed.first_group + static_cast<int64_t>(index));
  if (work.timing) work.timing->packing += clock.lap();
}

void summary_item(void* data, size_t index) {
  Work& work = *static_cast<Work*>(data);
  Clock clock(work.timing != nullptr);
  quantize_summaries(work.table, work.problem, work.packed,
                     work.packed.first_group + static_cast<int64_t>(index));
  if (work.timing) work.timing->summaries += clock.lap();
}

// The arrays of one task.
struct TaskArrays {
  void plan(const Problem& p, const Packed& packed, Scratch& scratch) {
    const int64_t blocks = p.key_blocks();
    scratch.add(&floats, {p.int8 ? int8_scratch(p.head_size, p.value_size)
                                 : float_scratch(p.head_size, p.value_size)});
    scratch.add(&panels, {blocks * packed.panels_per_block + packed.summary_panels});
    scratch.add(&bias, {packed.summary_panels, kPanelKeys});
    scratch.add(&selection.ranks, {blocks});
    scratch.add(&selection.best, {(blocks + kRankGroup - 1) / kRankGroup});
    scratch.add(&selection.share, {round_up(blocks, kShareLanes)});
    scratch.add(&kept, {blocks});
  }

  float* floats;
  Panel* panels;
  float* bias;
  SelectionArrays selection;
  uint8_t* kept;
};

// The panels of the kept blocks, then those summary panels that hold a dropped block.
int64_t list_panels(const Problem& p, const Packed& packed, int64_t b, int64_t group, int64_t i,
                    const uint8_t* kept, const TaskArrays& arrays) {
  const int64_t blocks = p.key_blocks(), end = p.causal ? std::min(i + 1, blocks) : blocks;
  const int32_t* valid_tokens = packed.valid_tokens + b * blocks;
  int64_t count = 0;
  bool any_dropped = false;
  for (int64_t j = 0; j < end; ++j) {
    if (!kept[j]) {
      any_dropped |= valid_tokens[j] > 0;
      continue;
    }
    const int64_t tokens = p.block_tokens(j, p.key_tokens);
    for (int64_t lane = 0; lane < tokens; lane += kPanelKeys) {
      // Row r of block i is token i*block_size + r, which is past the keys of every earlier block.
      arrays.panels[count++] =
          packed.panel(group, j, lane / kPanelKeys, p.causal && j == i ? -lane : kNotDiagonal,
                       std::min<int64_t>(kPanelKeys, tokens - lane));
    }
  }
  if (!p.summaries || !any_dropped) return count;
  for (int64_t s = 0; s < packed.summary_panels; ++s) {
    float* bias = arrays.bias + s * kPanelKeys;
    bool any = false;
    for (int64_t lane = 0; lane < kPanelKeys; ++lane) {
      const int64_t j = s * kPanelKeys + lane;
      const bool dropped = j < end && !kept[j] && valid_tokens[j] > 0;
      bias[lane] = dropped ? packed.log_count(valid_tokens[j]) : -HUGE_VALF;
      any |= dropped;
    }
    if (any) arrays.panels[count++] = packed.summary_panel(group, s, bias);
  }
  return count;
}

// The panels from the first key of the block's first row to the last key of its last one.
int64_t list_spans(const Problem& p, const Packed& packed, int64_t b, int64_t group, int64_t i,
                   const TaskArrays& arrays) {
  const int64_t rows = p.block_tokens(i, p.query_tokens);
  const int32_t *first = p.first_key + i * p.block_size, *last = p.last_key + i * p.block_size;
  const int64_t from = first[0], to = last[rows - 1];
  const int32_t* valid_tokens = packed.valid_tokens + b * p.key_blocks();
  int64_t count = 0;
  for (int64_t j = from / p.block_size; j * p.block_size <= to; ++j) {
    if (valid_tokens[j] == 0) continue;
    const int64_t tokens = p.block_tokens(j, p.key_tokens);
    for (int64_t lane = 0; lane < tokens; lane += kPanelKeys) {
      const int64_t token = j * p.block_size + lane, lanes = std::min<int64_t>(kPanelKeys, tokens - lane);
      if (token + lanes <= from || token > to) continue;
      const bool seen_by_all = first[rows - 1] <= token && token + lanes - 1 <= last[0];
      Panel& panel = arrays.panels[count++];
      panel = packed.panel(group, j, lane / kPanelKeys, kNotDiagonal, lanes);
      if (!seen_by_all) panel.token = static_cast<int32_t>(token);
    }
  }
  return count;
}

// Selects, unless every row has its span.
int64_t choose_panels(Work& work, int64_t b, int64_t h, int64_t i, int64_t group, const TaskArrays& arrays) {
  const Problem& p = work.problem;
  if (p.first_key) return list_spans(p, work.packed, b, group, i, arrays);
  const int64_t key_blocks = p.key_blocks();
  const int64_t row_of_blocks = (b * p.heads + h) * p.query_blocks() + i;
  uint8_t* const kept = p.selection ? p.selection + row_of_blocks * key_blocks : arrays.kept;
  select_blocks(work.table, p.block_scores + row_of_blocks * key_blocks,
                work.packed.valid_tokens + b * key_blocks, key_blocks, i, p.causal, p.window,
                p.top_p[p.top_p_per_head ? h : 0], p.max_blocks, arrays.selection, kept);
  return list_panels(p, work.packed, b, group, i, kept, arrays);
}

void attend_block(Work& work, int64_t b, int64_t h, int64_t i, const TaskArrays& arrays, Clock& clock,
                  double& selecting) {
  const Problem& p = work.problem;
  const int64_t group = b * p.kv_heads + h / (p.heads / p.kv_heads);
  clock.lap();
  const int64_t panels = choose_panels(work, b, h, i, group, arrays);
  selecting += clock.lap();

  const int64_t tokens = p.block_tokens(i, p.query_tokens);
  Job job{};
  if (work.timing) {
    job.clock = now;
    job.softmax_seconds = &work.timing->softmax;
  }
  job.query_stride = p.heads * p.head_size;
  job.output_stride = p.heads * p.value_size;
  job.head_size = p.head_size;
  job.value_size = p.value_size;
  job.scale = p.scale * 1.44269504088896341f;
  job.panels = arrays.panels;
  job.panel_count = panels;
  job.scratch = arrays.floats;
  for (int64_t row = 0; row < tokens; row += kRows) {
    const int64_t token = b * p.query_tokens + i * p.block_size + row;
    job.query = p.query + token * job.query_stride + h * p.head_size;
    job.output = p.output + token * job.output_stride + h * p.value_size;
    job.rows = std::min<int64_t>(kRows, tokens - row);
    if (p.first_key) {
      job.first_key = p.first_key + i * p.block_size + row;
      job.last_key = p.last_key + i * p.block_size + row;
    }
    if (p.int8)
      work.table.attend_int8(job);
    else
      work.table.attend(job);
    for (int64_t k = 0; k < panels; ++k)
      if (job.panels[k].last_for_row_0 != kNotDiagonal) arrays.panels[k].last_for_row_0 += kRows;
  }
}

// The query blocks of one item. As in PackItem, the heads of a block follow each other.
struct AttendItem {
  AttendItem(const Work& work, size_t index) {
    const Problem& p = work.problem;
    const int64_t step = work.blocks_per_pack(), heads_per_group = p.heads / p.kv_heads;
    const int64_t heads_now = work.groups_now * heads_per_group;
    head = work.packed.first_group * heads_per_group + static_cast<int64_t>(index) % heads_now;
    first = static_cast<int64_t>(index) / heads_now * step;
    end = std::min(first + step, p.query_blocks());
  }
  int64_t head, first, end;  // `head` counts over the batch
};

void attend_item(Work& work, size_t index, const TaskArrays& arrays) {
  const Problem& p = work.problem;
  const AttendItem item(work, index);
  Clock whole(work.timing != nullptr), clock(work.timing != nullptr);
  double selecting = 0.0;
  for (int64_t i = item.first; i < item.end; ++i)
    attend_block(work, item.head / p.heads, item.head % p.heads, i, arrays, clock, selecting);
  if (work.timing) {
    work.timing->selection += selecting;
    work.timing->attention += whole.lap() - selecting;
  }
}

void attend_task(void* data, size_t) {
  Work& work = *static_cast<Work*>(data);
  size_t index = work.next_item.fetch_add(1);
  if (index >= work.attend_items) return;
  Scratch scratch(work.host);
  TaskArrays arrays{};
  arrays.plan(work.problem, work.packed, scratch);
  if (!scratch.take()) {
    work.out_of_memory = true;
    return;
  }
  for (; index < work.attend_items; index = work.next_item.fetch_add(1)) attend_item(work, index, arrays);
}

const char* run_packed(const Table& table, const Problem& problem, const Host& host, Timing* timing) {
  Packed packed{};
  Scratch scratch(host);
  packed.plan(problem, scratch);
  if (!scratch.take()) return "There is not enough memory for packed keys and values; shorten the input.";
  packed.count_valid(problem);

  Work work{table, problem, packed, host, timing};
  const char* error = nullptr;
  const int64_t groups = problem.batch * problem.kv_heads, heads_per_group = problem.heads / problem.kv_heads;
  for (int64_t first = 0; first < groups && !error; first += packed.groups) {
    packed.first_group = first;
    work.groups_now = std::min(packed.groups, groups - first);
    const size_t groups_now = static_cast<size_t>(work.groups_now);
    const size_t pack_items = groups_now * static_cast<size_t>(work.pack_items());
    work.attend_items =
        groups_now * static_cast<size_t>(heads_per_group) * static_cast<size_t>(work.query_items());
    if (problem.int8) error = host.parallel(host.self, shift_item, groups_now, &work);
    if (!error) error = host.parallel(host.self, pack_item, pack_items, &work);
    if (!error && problem.int8 && problem.summaries)
      error = host.parallel(host.self, summary_item, groups_now, &work);
    work.next_item = 0;
    if (!error) error = host.parallel(host.self, attend_task, std::min(work.attend_items, kTasks), &work);
  }
  if (!error && work.out_of_memory)
    error = "There is not enough memory for a block's scratch; use a smaller head.";
  return error;
}

// Whether two arrays share memory; compared as integers, for they need not be parts of one object.
bool overlap(const float* a, int64_t a_count, const float* b, int64_t b_count) {
  const auto from_a = reinterpret_cast<uintptr_t>(a), from_b = reinterpret_cast<uintptr_t>(b);
  return from_a < from_b + static_cast<uintptr_t>(b_count) * sizeof(float) &&
         from_b < from_a + static_cast<uintptr_t>(a_count) * sizeof(float);
}

}  // namespace

const char* run(const Table& table, const Problem& problem, const Host& host, Timing* timing) {
  if (problem.batch == 0 || problem.query_tokens == 0) return nullptr;
  const int64_t rows = problem.batch * problem.query_tokens * problem.heads;
  const int64_t queries = rows * problem.head_size;
  // Where a head's row takes the place of the query that it alone has read, nothing is lost. Under another
  // layout, as of a model that declares wrong shapes, it would overwrite queries that are still to be read.
  const bool in_place = problem.output == problem.query && problem.value_size == problem.head_size;
  if (in_place || !overlap(problem.query, queries, problem.output, rows * problem.value_size))
    return run_packed(table, problem, host, timing);
  Scratch scratch(host);
  float* copy = nullptr;
  scratch.add(&copy, {queries});
  if (!scratch.take()) return "There is not enough memory for a copy of the queries; shorten the input.";
  std::copy(problem.query, problem.query + queries, copy);
  Problem copied = problem;
  copied.query = copy;
  return run_packed(table, copied, host, timing);
}

}  // namespace edgesparse
