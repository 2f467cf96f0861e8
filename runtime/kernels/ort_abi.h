// The part of onnxruntime's C interface that the operator uses, with the position of each entry.
//
// The interface is a table of functions that only grows, so a position never changes. These are the
// positions of interface version 22 (onnxruntime 1.22, the oldest we support); a library that requests
// a newer version is refused by older hosts. Build with -DORT_INCLUDE_DIR=<official headers> to have
// the compiler compare every line below with them (ort_abi_check.cc).
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgesparse::ort {

constexpr uint32_t kInterfaceVersion = 22;

struct Status;
struct Value;
struct TensorInfo;
struct KernelInfo;
struct KernelContext;
struct CustomOpDomain;
struct SessionOptions;
struct Allocator;
struct Api;

enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };
enum ElementType : int { kFloat = 1, kUint8 = 2, kInt8 = 3, kInt64 = 7, kString = 8, kBool = 9 };
enum MemoryType : int { kDefaultMemory = 0 };
enum Characteristic : int { kRequired = 0, kOptional = 1 };

// name, position, result, parameters
#define EDGESPARSE_ORT_ENTRIES(X)                                                                         \
  X(CreateStatus, 0, Status*, (ErrorCode, const char*))                                                   \
  X(CreateCustomOpDomain, 26, Status*, (const char*, CustomOpDomain**))                                   \
  X(CustomOpDomain_Add, 27, Status*, (CustomOpDomain*, const struct CustomOp*))                           \
  X(AddCustomOpDomain, 28, Status*, (SessionOptions*, CustomOpDomain*))                                   \
  X(GetTensorMutableData, 51, Status*, (Value*, void**))                                                  \
  X(FillStringTensor, 52, Status*, (Value*, const char* const*, size_t))                                  \
  X(GetTensorElementType, 60, Status*, (const TensorInfo*, ElementType*))                                 \
  X(GetDimensionsCount, 61, Status*, (const TensorInfo*, size_t*))                                        \
  X(GetDimensions, 62, Status*, (const TensorInfo*, int64_t*, size_t))                                    \
  X(GetTensorTypeAndShape, 65, Status*, (const Value*, TensorInfo**))                                     \
  X(AllocatorAlloc, 75, Status*, (Allocator*, size_t, void**))                                            \
  X(AllocatorFree, 76, Status*, (Allocator*, void*))                                                      \
  X(KernelInfoGetAttribute_float, 85, Status*, (const KernelInfo*, const char*, float*))                  \
  X(KernelInfoGetAttribute_int64, 86, Status*, (const KernelInfo*, const char*, int64_t*))                \
  X(KernelInfoGetAttribute_string, 87, Status*, (const KernelInfo*, const char*, char*, size_t*))         \
  X(KernelContext_GetInputCount, 88, Status*, (const KernelContext*, size_t*))                            \
  X(KernelContext_GetOutputCount, 89, Status*, (const KernelContext*, size_t*))                           \
  X(KernelContext_GetInput, 90, Status*, (const KernelContext*, size_t, const Value**))                   \
  X(KernelContext_GetOutput, 91, Status*, (KernelContext*, size_t, const int64_t*, size_t, Value**))      \
  X(ReleaseStatus, 93, void, (Status*))                                                                   \
  X(ReleaseTensorTypeAndShapeInfo, 99, void, (TensorInfo*))                                               \
  X(ReleaseCustomOpDomain, 101, void, (CustomOpDomain*))                                                  \
  X(ReleaseAllocator, 132, void, (Allocator*))                                                            \
  X(KernelInfoGetAttributeArray_int64, 163, Status*, (const KernelInfo*, const char*, int64_t*, size_t*)) \
  X(KernelContext_ParallelFor, 274, Status*,                                                              \
    (const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*))                               \
  X(KernelInfoGetAllocator, 278, Status*, (const KernelInfo*, MemoryType, Allocator**))

// The functions by name, copied out of onnxruntime's table once.
struct Functions {
#define X(name, position, result, parameters) result(*name) parameters;
  EDGESPARSE_ORT_ENTRIES(X)
#undef X
  explicit Functions(const Api* api) {
    const auto* const table = reinterpret_cast<void* const*>(api);
#define X(name, position, result, parameters) name = reinterpret_cast<result(*) parameters>(table[position]);
    EDGESPARSE_ORT_ENTRIES(X)
#undef X
  }
};

struct ApiBase {
  const Api* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

// What onnxruntime asks an operator, in its order. Members that we leave null are never called.
struct CustomOp {
  uint32_t version;
  void* (*CreateKernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char* (*GetName)(const CustomOp*);
  const char* (*GetExecutionProviderType)(const CustomOp*);
  ElementType (*GetInputType)(const CustomOp*, size_t);
  size_t (*GetInputTypeCount)(const CustomOp*);
  ElementType (*GetOutputType)(const CustomOp*, size_t);
  size_t (*GetOutputTypeCount)(const CustomOp*);
  void (*KernelCompute)(void*, KernelContext*);
  void (*KernelDestroy)(void*);
  Characteristic (*GetInputCharacteristic)(const CustomOp*, size_t);
  Characteristic (*GetOutputCharacteristic)(const CustomOp*, size_t);
  MemoryType (*GetInputMemoryType)(const CustomOp*, size_t);
  int (*GetVariadicInputMinArity)(const CustomOp*);
  int (*GetVariadicInputHomogeneity)(const CustomOp*);
  int (*GetVariadicOutputMinArity)(const CustomOp*);
  int (*GetVariadicOutputHomogeneity)(const CustomOp*);
  Status* (*CreateKernelV2)(const CustomOp*, const Api*, const KernelInfo*, void**);
  Status* (*KernelComputeV2)(void*, KernelContext*);
  Status* (*InferOutputShapeFn)(const CustomOp*, void*);
  int (*GetStartVersion)(const CustomOp*);
  int (*GetEndVersion)(const CustomOp*);
  size_t (*GetMayInplace)(int**, int**);
  void (*ReleaseMayInplace)(int*, int*);
  size_t (*GetAliasMap)(int**, int**);
  void (*ReleaseAliasMap)(int*, int*);
};

}  // namespace edgesparse::ort
