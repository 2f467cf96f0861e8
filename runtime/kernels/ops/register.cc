// The one exported symbol.
#include <initializer_list>
#include <mutex>

#include "isa/table.h"
#include "ops/operators.h"
#include "ops/status.h"

namespace edgesparse {
namespace {

// onnxruntime keeps a pointer to the domain for as long as a session lives, and sessions have no owner
// that we could ask: one domain for the whole process.
ort::Status* make_domain(const ort::Functions& ort, ort::CustomOpDomain** domain) {
  ort::CustomOpDomain* made = nullptr;
  EDGESPARSE_RETURN_IF(ort.CreateCustomOpDomain("edgesparse", &made));
  for (const ort::CustomOp* op :
       {sparse_attention_op(), window_attention_op(), kernel_info_op(), linear_op(), linear_split_op(),
        filter_bank_op(), filter_bank_linear_op(), kernel_bank_op(), kernel_bank_linear_op(),
        block_scores_op(), sampled_scores_op(), value_convolution_op(), feed_forward_op(),
        competing_filters_op(), token_step_op(), close_block_op()})
    if (ort::Status* const failed = ort.CustomOpDomain_Add(made, op)) {
      ort.ReleaseCustomOpDomain(made);
      return failed;
    }
  *domain = made;
  return nullptr;
}

}  // namespace
}  // namespace edgesparse

extern "C" __attribute__((visibility("default"))) edgesparse::ort::Status* RegisterCustomOps(
    edgesparse::ort::SessionOptions* options, const edgesparse::ort::ApiBase* base) {
  using namespace edgesparse;
  const ort::Api* const api = base->GetApi(ort::kInterfaceVersion);
  // Without an interface there is no way to make a status: registering nothing leaves the operator to
  // its function body, and onnxruntime names the operator where the file has none.
  if (!api) return nullptr;
  const ort::Functions ort(api);
  if (!chosen_table())
    return refuse(ort, "EDGESPARSE_ISA must name an instruction set of this machine (%s); unset it.%s%s",
                  available_tables(), what_was_refused() ? " " : "",
                  what_was_refused() ? what_was_refused() : "");
  static std::mutex mutex;
  static ort::CustomOpDomain* domain = nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
  if (!domain) EDGESPARSE_RETURN_IF(make_domain(ort, &domain));
  return ort.AddCustomOpDomain(options, domain);
}
