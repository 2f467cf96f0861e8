// Errors on their way to onnxruntime: one sentence, no exception.
#pragma once

#include <cstdio>

#include "ort_abi.h"

namespace edgesparse {

// Makes a status of the given kind from a printf format.
template <class... Values>
ort::Status* refuse(const ort::Functions& ort, const char* format, Values... values) {
  char text[512];
  std::snprintf(text, sizeof text, format, values...);
  return ort.CreateStatus(ort::kInvalidArgument, text);
}

}  // namespace edgesparse

// Hands a failure of onnxruntime itself on to the caller.
#define EDGESPARSE_RETURN_IF(expression)                         \
  do {                                                           \
    if (ort::Status* const failed = (expression)) return failed; \
  } while (0)
