// Compiled for any processor: it decides whether the others may run.
#include "isa/amx/permission.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace edgesparse {
namespace {

#if defined(__x86_64__) && defined(__linux__)
bool has_instructions() {
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25;  // AMX-TILE, AMX-INT8
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kTile) && (d & kInt8);
}

Amx ask() {
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  if (!has_instructions()) return Amx::kAbsent;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0 ? Amx::kGranted : Amx::kRefused;
}
#else
Amx ask() { return Amx::kAbsent; }
#endif

}  // namespace

Amx ask_for_amx() {
  static const Amx answer = ask();
  return answer;
}

}  // namespace edgesparse
