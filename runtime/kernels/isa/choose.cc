#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "isa/amx/permission.h"
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
#ifndef EDGESPARSE_AMX
const edgesparse::Table* edgesparse::amx_table() { return nullptr; }
#endif
#ifndef EDGESPARSE_AMX_EMULATED
const edgesparse::Table* edgesparse::amx_emulated_table() { return nullptr; }
#endif
#ifndef EDGESPARSE_NEON_DOTPROD
const edgesparse::Table* edgesparse::neon_dotprod_table() { return nullptr; }
#endif
#ifndef EDGESPARSE_NEON
const edgesparse::Table* edgesparse::neon_table() { return nullptr; }
#endif

namespace edgesparse {
namespace {

// AMX is chosen by name only: measured on a Xeon that has both, whole models and attention took as long with
// AVX-512, and only linear layers alone were faster (docs/performance.md, "Every table on one Xeon").
constexpr bool kAmxByDefault = false;

struct Source {
  const Table* (*table)();
  bool by_default = true;
};
// Best first.
constexpr Source kSources[] = {
    {amx_table, kAmxByDefault}, {avx512_table}, {avxvnni_table}, {avx2_table},
    {neon_dotprod_table},       {neon_table},   {scalar_table},  {amx_emulated_table, false}};

const Table* choose() {
  const char* pin = std::getenv("EDGESPARSE_ISA");
  if (pin && !*pin) pin = nullptr;
  for (const Source& source : kSources) {
    if (!pin && !source.by_default) continue;
    const Table* const table = source.table();
    if (table && (!pin || std::strcmp(pin, table->name) == 0)) return table;
  }
  return nullptr;
}

}  // namespace

const Table* chosen_table() {
  static const Table* const table = choose();
  return table;
}

const char* what_was_refused() {
  const char* const pin = std::getenv("EDGESPARSE_ISA");
  const bool wanted = pin && *pin ? std::strcmp(pin, "amx") == 0 : kAmxByDefault;
  if (!wanted || ask_for_amx() != Amx::kRefused) return nullptr;
  return "The processor has AMX, and the system refuses it to this process (arch_prctl, "
         "ARCH_REQ_XCOMP_PERM).";
}

const char* available_tables() {
  static char names[128];
  int used = 0;
  for (const Source& source : kSources)
    if (const Table* const table = source.table())
      used += std::snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", table->name);
  return names;
}

}  // namespace edgesparse
