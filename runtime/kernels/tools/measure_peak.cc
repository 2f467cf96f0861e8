// Measures what the arithmetic units give at best, for the share of it that a kernel reaches. One JSON line:
// {"isa": "avx512vnni", "threads": 1, "fma_gflops": 117.6, "dot_gops": 470.2}, summed over the threads.
//
//   measure_peak THREADS
//
// The instruction set is that of the kernels' table, so EDGESPARSE_ISA pins it. A figure is null where the
// instruction set has no such instruction: `scalar` has neither, `avx2` no product of bytes that cannot
// saturate.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "isa/table.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

// As many sums as two ports of latency five keep in flight, and as fit AVX2's registers. Named one by one: an
// array of sums would live in memory.
constexpr int kChains = 10;
constexpr int64_t kRounds = 1 << 16;
#define EACH_CHAIN(do) \
  do (s0) do(s1) do(s2) do(s3) do(s4) do(s5) do(s6) do(s7) do(s8) do(s9)

// The compiler must believe that a sum is read and changed, or it leaves the loop out.
#if defined(__x86_64__)
#define KEEP(s) asm volatile("" : "+v"(s))
#else
#define KEEP(s) asm volatile("" : "+w"(s))
#endif

struct Loop {
  void (*run)();
  double operations;  // of one run; a multiplication and an addition are two
};

#define MEASURED_LOOP(type, start, step)                                                               \
  type s0 = start, s1 = start, s2 = start, s3 = start, s4 = start, s5 = start, s6 = start, s7 = start, \
       s8 = start, s9 = start;                                                                         \
  for (int64_t i = 0; i < kRounds; ++i) {                                                              \
    EACH_CHAIN(step)                                                                                   \
  }

#if defined(__x86_64__)

__attribute__((target("avx512f"))) void fma_avx512() {
  const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
#define STEP(s)                 \
  s = _mm512_fmadd_ps(s, a, b); \
  KEEP(s);
  MEASURED_LOOP(__m512, a, STEP)
#undef STEP
}

__attribute__((target("avx512f,avx512vnni"))) void dot_avx512() {
  const __m512i a = _mm512_set1_epi32(0x01010101);
#define STEP(s)                     \
  s = _mm512_dpbusd_epi32(s, a, a); \
  KEEP(s);
  MEASURED_LOOP(__m512i, a, STEP)
#undef STEP
}

__attribute__((target("avx2,fma"))) void fma_avx2() {
  const __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
#define STEP(s)                 \
  s = _mm256_fmadd_ps(s, a, b); \
  KEEP(s);
  MEASURED_LOOP(__m256, a, STEP)
#undef STEP
}

#elif defined(__aarch64__)

void fma_neon() {
  const float32x4_t a = vdupq_n_f32(0.5f), b = vdupq_n_f32(0.25f);
#define STEP(s)           \
  s = vfmaq_f32(s, a, b); \
  KEEP(s);
  MEASURED_LOOP(float32x4_t, a, STEP)
#undef STEP
}

__attribute__((target("arch=armv8.2-a+dotprod"))) void dot_neon() {
  const int8x16_t a = vdupq_n_s8(1);
  const int32x4_t zero = vdupq_n_s32(0);
#define STEP(s)           \
  s = vdotq_s32(s, a, a); \
  KEEP(s);
  MEASURED_LOOP(int32x4_t, zero, STEP)
#undef STEP
}

#endif

Loop fma_loop(const char* isa) {
#if defined(__x86_64__)
  if (!std::strcmp(isa, "avx512vnni")) return {fma_avx512, 2.0 * 16 * kChains * kRounds};
  if (!std::strcmp(isa, "avx2")) return {fma_avx2, 2.0 * 8 * kChains * kRounds};
#elif defined(__aarch64__)
  if (!std::strncmp(isa, "neon", 4)) return {fma_neon, 2.0 * 4 * kChains * kRounds};
#endif
  (void)isa;
  return {nullptr, 0};
}

Loop dot_loop(const char* isa) {
#if defined(__x86_64__)
  if (!std::strcmp(isa, "avx512vnni")) return {dot_avx512, 2.0 * 64 * kChains * kRounds};
#elif defined(__aarch64__)
  if (!std::strcmp(isa, "neon")) return {dot_neon, 2.0 * 16 * kChains * kRounds};
#endif
  (void)isa;
  return {nullptr, 0};
}

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The best of many short runs: what other work on the machine takes is no part of the peak.
double best_rate(const Loop& loop) {
  double best = 0;
  for (const double end = seconds() + 0.5; seconds() < end;) {
    const double start = seconds();
    loop.run();
    const double rate = loop.operations / (seconds() - start);
    if (rate > best) best = rate;
  }
  return best / 1e9;
}

void print_rate(const char* name, const Loop& loop, int threads) {
  if (!loop.run) {
    std::printf(", \"%s\": null", name);
    return;
  }
  std::vector<double> rates(static_cast<size_t>(threads));
  std::vector<std::thread> workers;
  for (double& rate : rates) workers.emplace_back([&rate, &loop] { rate = best_rate(loop); });
  for (std::thread& worker : workers) worker.join();
  double sum = 0;
  for (const double rate : rates) sum += rate;
  std::printf(", \"%s\": %.1f", name, sum);
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc == 2 ? std::atoi(argv[1]) : 0;
  if (threads < 1) {
    std::fprintf(stderr, "usage: measure_peak THREADS\n");
    return 2;
  }
  const edgesparse::Table* const table = edgesparse::chosen_table();
  if (!table) {
    std::fprintf(stderr, "EDGESPARSE_ISA must be one of %s\n", edgesparse::available_tables());
    return 1;
  }
  std::printf("{\"isa\": \"%s\", \"threads\": %d", table->name, threads);
  print_rate("fma_gflops", fma_loop(table->name), threads);
  print_rate("dot_gops", dot_loop(table->name), threads);
  std::printf("}\n");
  return 0;
}
