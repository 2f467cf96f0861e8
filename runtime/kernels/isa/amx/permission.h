// Whether this process may use the matrix unit of AMX.
#pragma once

namespace edgesparse {

enum class Amx { kAbsent, kRefused, kGranted };

// Asks the system at the first call, for the whole process: a thread's state grows by 8 KiB when it first
// uses the unit, so the system grants it only on request.
Amx ask_for_amx();

}  // namespace edgesparse
