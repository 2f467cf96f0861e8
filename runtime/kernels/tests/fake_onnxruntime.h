// onnxruntime in miniature: loads the operator library and calls its operators with memory that a test
// controls.
//
// Everything that onnxruntime would allocate (outputs, scratch) is filled with one byte first, ends where its
// memory ends, and can be made to run out: what an operator returns must not depend on any of it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ort_abi.h"

namespace edgesparse::tests {

using Shape = std::vector<int64_t>;

size_t element_bytes(ort::ElementType type);
// -1 where a shape has a negative axis or more elements than an int64 counts.
int64_t elements(const Shape& shape);

// Memory of an exact size; null for no bytes.
using Memory = std::shared_ptr<char>;
Memory make_memory(int64_t bytes, unsigned char fill);

struct Tensor {
  ort::ElementType type = ort::kFloat;
  Shape shape;
  Memory data;  // null with elements: the input is not given at all
  bool given = true;

  int64_t bytes() const { return elements(shape) * static_cast<int64_t>(element_bytes(type)); }
};

struct Attribute {
  enum Kind { kInteger, kFloat, kString, kIntegers } kind = kInteger;
  int64_t integer = 0;
  float real = 0.0f;
  std::string text;
  std::vector<int64_t> integers;
};

// One node and its inputs.
struct Call {
  std::string op;
  std::map<std::string, Attribute> attributes;
  std::vector<Tensor> inputs;
  size_t outputs = 1;  // how many the node names
};

// How the host behaves during one call.
struct Conditions {
  unsigned char fill = 0xff;
  bool in_place = false;  // where the operator allows it and the sizes fit, as onnxruntime demands
  bool reversed = false;  // pieces of work run last to first
  int threads = 1;
  int64_t allocations = INT64_MAX;        // that succeed
  int64_t most_bytes = int64_t{1} << 28;  // of one allocation
};

struct Result {
  std::string error;  // empty = it ran
  std::vector<Tensor> outputs;
};

// The operators of one library, by name.
class Library {
 public:
  // Ends the process with a message where the file does not load or refuses to register.
  explicit Library(const std::string& path);
  Result run(const Call& call, const Conditions& conditions) const;
  std::string instruction_set() const;

 private:
  std::map<std::string, const ort::CustomOp*> operators_;
};

}  // namespace edgesparse::tests
