#include "fake_onnxruntime.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace edgesparse::ort {

struct Status {
  std::string text;
};
struct Value {
  tests::Tensor tensor;
  std::string text;  // of a string tensor
};
struct TensorInfo {
  const tests::Tensor* tensor;
};
struct Allocator {
  const tests::Conditions* conditions;
  std::atomic<int64_t> left, held;
};
struct KernelInfo {
  const tests::Call* call;
  Allocator* allocator;
};
struct KernelContext {
  const tests::Conditions* conditions;
  std::vector<Value> inputs, outputs;
  std::vector<bool> made;
  int from = -1, to = -1;  // the output that may take an input's memory
};
struct CustomOpDomain {
  std::vector<const CustomOp*> operators;
};
struct SessionOptions {
  CustomOpDomain* domain;
};

}  // namespace edgesparse::ort

namespace edgesparse::tests {
namespace {

[[noreturn]] void stop(const std::string& text) {
  std::fprintf(stderr, "%s\n", text.c_str());
  std::exit(2);
}

ort::Status* fail(std::string text) { return new ort::Status{std::move(text)}; }

const Attribute* find(const ort::KernelInfo* info, const char* name, Attribute::Kind kind) {
  const auto found = info->call->attributes.find(name);
  return found != info->call->attributes.end() && found->second.kind == kind ? &found->second : nullptr;
}

ort::Status* missing(const char* name) {
  return fail(std::string("No attribute with name:'") + name + "'is defined.");
}

// The functions of onnxruntime's interface that the operators use, under their names there.
struct Api {
  static ort::Status* CreateStatus(ort::ErrorCode, const char* text) { return fail(text); }
  static void ReleaseStatus(ort::Status* status) { delete status; }

  static ort::Status* CreateCustomOpDomain(const char*, ort::CustomOpDomain** made) {
    *made = new ort::CustomOpDomain;
    return nullptr;
  }
  static ort::Status* CustomOpDomain_Add(ort::CustomOpDomain* domain, const ort::CustomOp* op) {
    domain->operators.push_back(op);
    return nullptr;
  }
  static ort::Status* AddCustomOpDomain(ort::SessionOptions* options, ort::CustomOpDomain* domain) {
    options->domain = domain;
    return nullptr;
  }
  static void ReleaseCustomOpDomain(ort::CustomOpDomain* domain) { delete domain; }

  static ort::Status* GetTensorMutableData(ort::Value* value, void** data) {
    *data = value->tensor.data.get();
    return nullptr;
  }
  static ort::Status* FillStringTensor(ort::Value* value, const char* const* text, size_t) {
    value->text = *text;
    return nullptr;
  }
  static ort::Status* GetTensorTypeAndShape(const ort::Value* value, ort::TensorInfo** info) {
    *info = new ort::TensorInfo{&value->tensor};
    return nullptr;
  }
  static void ReleaseTensorTypeAndShapeInfo(ort::TensorInfo* info) { delete info; }
  static ort::Status* GetTensorElementType(const ort::TensorInfo* info, ort::ElementType* type) {
    *type = info->tensor->type;
    return nullptr;
  }
  static ort::Status* GetDimensionsCount(const ort::TensorInfo* info, size_t* count) {
    *count = info->tensor->shape.size();
    return nullptr;
  }
  static ort::Status* GetDimensions(const ort::TensorInfo* info, int64_t* shape, size_t count) {
    for (size_t axis = 0; axis < count && axis < info->tensor->shape.size(); ++axis)
      shape[axis] = info->tensor->shape[axis];
    return nullptr;
  }

  static ort::Status* AllocatorAlloc(ort::Allocator* allocator, size_t bytes, void** memory) {
    if (allocator->left-- <= 0 || bytes > static_cast<size_t>(allocator->conditions->most_bytes))
      return fail("Failed to allocate memory for requested buffer of size " + std::to_string(bytes));
    *memory = std::malloc(bytes);
    if (!*memory) return fail("Failed to allocate memory.");
    std::memset(*memory, allocator->conditions->fill, bytes);
    ++allocator->held;
    return nullptr;
  }
  static ort::Status* AllocatorFree(ort::Allocator* allocator, void* memory) {
    if (memory) --allocator->held;
    std::free(memory);
    return nullptr;
  }
  static ort::Status* KernelInfoGetAllocator(const ort::KernelInfo* info, ort::MemoryType,
                                             ort::Allocator** found) {
    *found = info->allocator;
    return nullptr;
  }
  static void ReleaseAllocator(ort::Allocator*) {}

  static ort::Status* KernelInfoGetAttribute_float(const ort::KernelInfo* info, const char* name, float* to) {
    const Attribute* const found = find(info, name, Attribute::kFloat);
    if (!found) return missing(name);
    *to = found->real;
    return nullptr;
  }
  static ort::Status* KernelInfoGetAttribute_int64(const ort::KernelInfo* info, const char* name,
                                                   int64_t* to) {
    const Attribute* const found = find(info, name, Attribute::kInteger);
    if (!found) return missing(name);
    *to = found->integer;
    return nullptr;
  }
  static ort::Status* KernelInfoGetAttribute_string(const ort::KernelInfo* info, const char* name, char* to,
                                                    size_t* size) {
    const Attribute* const found = find(info, name, Attribute::kString);
    if (!found) return missing(name);
    const size_t room = *size, needed = found->text.size() + 1;
    *size = needed;
    if (room < needed) return fail("Result buffer is not large enough");
    std::memcpy(to, found->text.c_str(), needed);
    return nullptr;
  }
  static ort::Status* KernelInfoGetAttributeArray_int64(const ort::KernelInfo* info, const char* name,
                                                        int64_t* to, size_t* size) {
    const Attribute* const found = find(info, name, Attribute::kIntegers);
    if (!found) return missing(name);
    const size_t room = *size, needed = found->integers.size();
    *size = needed;
    if (room < needed) return fail("Result buffer is not large enough");
    for (size_t i = 0; i < needed; ++i) to[i] = found->integers[i];
    return nullptr;
  }

  static ort::Status* KernelContext_GetInputCount(const ort::KernelContext* context, size_t* count) {
    *count = context->inputs.size();
    return nullptr;
  }
  static ort::Status* KernelContext_GetOutputCount(const ort::KernelContext* context, size_t* count) {
    *count = context->outputs.size();
    return nullptr;
  }
  static ort::Status* KernelContext_GetInput(const ort::KernelContext* context, size_t i,
                                             const ort::Value** value) {
    if (i >= context->inputs.size()) return fail("Required input is missing");
    *value = context->inputs[i].tensor.given ? &context->inputs[i] : nullptr;
    return nullptr;
  }
  static ort::Status* KernelContext_GetOutput(ort::KernelContext* context, size_t i, const int64_t* shape,
                                              size_t rank, ort::Value** value) {
    *value = nullptr;
    if (i >= context->outputs.size()) return nullptr;
    Tensor& tensor = context->outputs[i].tensor;
    tensor.shape.assign(shape, shape + rank);
    const int64_t count = elements(tensor.shape);
    if (count < 0 ||
        count > context->conditions->most_bytes / static_cast<int64_t>(element_bytes(tensor.type)))
      return fail("Tensor shape cannot be allocated");
    const Tensor* const reused =
        static_cast<int>(i) == context->to && static_cast<size_t>(context->from) < context->inputs.size()
            ? &context->inputs[static_cast<size_t>(context->from)].tensor
            : nullptr;
    const bool in_place =
        reused && reused->given && reused->type == tensor.type && reused->bytes() == tensor.bytes();
    tensor.data = in_place ? reused->data : make_memory(tensor.bytes(), context->conditions->fill);
    context->made[i] = true;
    *value = &context->outputs[i];
    return nullptr;
  }
  static ort::Status* KernelContext_ParallelFor(const ort::KernelContext* context,
                                                void (*task)(void*, size_t), size_t count, size_t,
                                                void* data) {
    const Conditions& conditions = *context->conditions;
    std::atomic<size_t> next{0};
    const auto work = [&] {
      for (size_t i = next++; i < count; i = next++) task(data, conditions.reversed ? count - 1 - i : i);
    };
    std::vector<std::thread> others;
    for (int i = 1; i < conditions.threads; ++i) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
    return nullptr;
  }
};

constexpr size_t kEntries = 400;

const ort::Api* table() {
  static void* entries[kEntries] = {};
#define X(name, position, result, parameters) entries[position] = reinterpret_cast<void*>(&Api::name);
  EDGESPARSE_ORT_ENTRIES(X)
#undef X
  return reinterpret_cast<const ort::Api*>(entries);
}

const ort::Api* get_api(uint32_t version) { return version <= ort::kInterfaceVersion ? table() : nullptr; }
const char* get_version() { return "1.22.0"; }
constexpr ort::ApiBase kBase = {get_api, get_version};

std::string take(ort::Status* status) {
  const std::string text = status->text.empty() ? "(an error without a message)" : status->text;
  delete status;
  return text;
}

}  // namespace

size_t element_bytes(ort::ElementType type) { return type == ort::kFloat ? 4 : type == ort::kInt64 ? 8 : 1; }

int64_t elements(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t axis : shape)
    if (axis == 0) return 0;
  for (const int64_t axis : shape)
    if (axis < 0 || __builtin_mul_overflow(count, axis, &count)) return -1;
  return count;
}

Memory make_memory(int64_t bytes, unsigned char fill) {
  if (bytes <= 0) return nullptr;
  char* const made = static_cast<char*>(std::malloc(static_cast<size_t>(bytes)));
  if (!made) stop("There is not enough memory for the test itself.");
  std::memset(made, fill, static_cast<size_t>(bytes));
  return Memory(made, std::free);
}

Library::Library(const std::string& path) {
  void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) stop(dlerror());
  using Register = ort::Status* (*)(ort::SessionOptions*, const ort::ApiBase*);
  const auto register_all = reinterpret_cast<Register>(dlsym(handle, "RegisterCustomOps"));
  if (!register_all) stop(dlerror());
  ort::SessionOptions options{nullptr};
  if (ort::Status* const failed = register_all(&options, &kBase)) stop(take(failed));
  for (const ort::CustomOp* op : options.domain->operators) operators_[op->GetName(op)] = op;
}

Result Library::run(const Call& call, const Conditions& conditions) const {
  const auto found = operators_.find(call.op);
  if (found == operators_.end()) stop("no operator " + call.op);
  const ort::CustomOp* const op = found->second;
  Result result;
  if (call.outputs > op->GetOutputTypeCount(op)) {
    result.error = "The node has more outputs than its operator.";
    return result;
  }
  ort::Allocator allocator{&conditions, {conditions.allocations}, {0}};
  const ort::KernelInfo info{&call, &allocator};
  void* kernel = nullptr;
  if (ort::Status* const failed = op->CreateKernelV2(op, table(), &info, &kernel)) {
    result.error = take(failed);
    return result;
  }
  ort::KernelContext context{&conditions, {}, {}, {}, -1, -1};
  for (const Tensor& input : call.inputs) context.inputs.push_back({input, ""});
  for (size_t i = 0; i < call.outputs; ++i) {
    context.outputs.push_back({});
    context.outputs.back().tensor.type = op->GetOutputType(op, i);
  }
  context.made.assign(call.outputs, false);
  if (conditions.in_place && op->GetMayInplace) {
    int *from = nullptr, *to = nullptr;
    if (op->GetMayInplace(&from, &to) == 1) {
      context.from = *from;
      context.to = *to;
    }
    op->ReleaseMayInplace(from, to);
  }
  // The output overwrites its own copy of an input.
  if (context.from >= 0 && static_cast<size_t>(context.from) < context.inputs.size()) {
    Tensor& input = context.inputs[static_cast<size_t>(context.from)].tensor;
    const Memory copy = make_memory(input.bytes(), 0);
    if (copy) std::memcpy(copy.get(), input.data.get(), static_cast<size_t>(input.bytes()));
    input.data = copy;
  }
  if (ort::Status* const failed = op->KernelComputeV2(kernel, &context)) result.error = take(failed);
  op->KernelDestroy(kernel);
  if (allocator.held != 0) stop(call.op + " keeps memory");
  if (!result.error.empty()) return result;
  for (size_t i = 0; i < call.outputs; ++i) {
    if (!context.made[i]) stop(call.op + " leaves an output out");
    Tensor& output = context.outputs[i].tensor;
    if (output.type == ort::kString) {
      output.data = make_memory(static_cast<int64_t>(context.outputs[i].text.size()) + 1, 0);
      std::memcpy(output.data.get(), context.outputs[i].text.c_str(), context.outputs[i].text.size());
    }
    result.outputs.push_back(output);
  }
  return result;
}

std::string Library::instruction_set() const {
  const Result result = run({"KernelInfo", {}, {}, 1}, {});
  return result.error.empty() ? result.outputs[0].data.get() : result.error;
}

}  // namespace edgesparse::tests
