#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "isa/table.h"

// A table that the compiler could not build is replaced by one that is never there.
#ifndef EDGESPARSE_AVX2
const edgesparse::Table* edgesparse::avx2_table() { return nullptr; }
#endif
#ifndef EDGESPARSE_AVXVNNI
const edgesparse::Table* edgesparse::avxvnni_table() { return nullptr; }
#endif
#ifndef EDGESPARSE_AVX512
const edgesparse::Table* edgesparse::avx512_table() { return nullptr; }
#endif
#ifndef EDGESPARSE_NEON
const edgesparse::Table* edgesparse::neon_table() { return nullptr; }
#endif

namespace edgesparse {
namespace {

using Source = const Table* (*)();
// Best first.
constexpr Source kSources[] = {avx512_table, avxvnni_table, avx2_table, neon_table, scalar_table};

const Table* choose() {
  const char* const pin = std::getenv("EDGESPARSE_ISA");
  for (const Source source : kSources) {
    const Table* const table = source();
    if (table && (!pin || !*pin || std::strcmp(pin, table->name) == 0)) return table;
  }
  return nullptr;
}

}  // namespace

const Table* chosen_table() {
  static const Table* const table = choose();
  return table;
}

const char* available_tables() {
  static char names[128];
  int used = 0;
  for (const Source source : kSources)
    if (const Table* const table = source())
      used += std::snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", table->name);
  return names;
}

}  // namespace edgesparse
