# Targets of the native kernels; the top Makefile includes this file.
KERNELS := runtime/kernels
QEMU_ARM64 := qemu-aarch64-static -L /usr/aarch64-linux-gnu
RUN ?= .venv/bin/python
CLANG_FORMAT ?= clang-format
# Random calls of operators, for each instruction set.
CALLS ?= 20000
# The first of them; a fuzzer in parts gives each its own.
SEED ?= 0
# Random models under onnxruntime.
MODELS ?= 300
KERNEL_SOURCES := $(shell find $(KERNELS) -name '*.h' -o -name '*.cc')
.PHONY: prove-kernels bench-attention check-kernels build-kernels build-arm64 build-sanitize test-arm64 \
  test-arm64-wheel test-sanitize fuzz-kernels

prove-kernels: $(VENV)/.dev  ## the kernels' claims, PASS or FAIL per line (QUICK=1: under 5 minutes)
	$(RUN) -m benchmarks.proofs.kernels

bench-attention: $(VENV)/.dev  ## sparse attention against every rival, one and two threads; resumes
	$(RUN) -m benchmarks.attention.main --threads 1 2 -o bench-results

check-kernels:  ## format of the native code
	$(CLANG_FORMAT) --dry-run -Werror $(KERNEL_SOURCES)

# What tests build when they need it; CI builds all of it beside the check of types, which leaves a core idle.
build-kernels: $(VENV)/.dev
	$(RUN) -c "from tests.support.kernels.build import build_kernels; build_kernels()"

build-arm64:
	cmake -S $(KERNELS) -B build/arm64 -DEDGESPARSE_TESTS=ON -DCMAKE_SYSTEM_NAME=Linux \
	  -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
	cmake --build build/arm64 --parallel 2

build-sanitize:
	cmake -S $(KERNELS) -B build/sanitize -DEDGESPARSE_TESTS=ON -DEDGESPARSE_SANITIZE=address,undefined
	cmake --build build/sanitize --parallel 2 --target edgesparse_kernels test_kernels fuzz_operators

test-arm64: build-arm64  ## the kernels built for AArch64 run under qemu-user
	for isa in neon_dotprod neon scalar; do EDGESPARSE_ISA=$$isa $(QEMU_ARM64) build/arm64/test_kernels || exit 1; \
	  EDGESPARSE_ISA=$$isa $(QEMU_ARM64) build/arm64/fuzz_operators build/arm64/edgesparse_kernels.so 2000 || exit 1; \
	done
	# Cores without the dot product get the table without it, not an illegal instruction.
	for core in cortex-a53 cortex-a72; do \
	  $(QEMU_ARM64) -cpu $$core build/arm64/test_kernels | grep '^neon: 0 of' || exit 1; done

test-arm64-wheel: $(VENV)/.dev  ## the whole AArch64 wheel under an emulated Python (fetches 60 MB; not in CI)
	$(RUN) -m tests.kernels.arm64_wheel

test-sanitize: $(VENV)/.dev build-sanitize  ## address and undefined-behavior sanitizers on the kernels and operators (CALLS=1000000)
	# Every table of this machine, pinned; the first is the one that is chosen without a pin. GCC aligns the stack
	# frames in which it looks for use after return to less than the 64 bytes of AVX-512.
	for isa in $$(build/sanitize/test_kernels --tables | tr -d ,); do \
	  export ASAN_OPTIONS=detect_stack_use_after_return=0; \
	  EDGESPARSE_ISA=$$isa build/sanitize/test_kernels && \
	  EDGESPARSE_ISA=$$isa build/sanitize/fuzz_operators build/sanitize/edgesparse_kernels.so $(CALLS) $(SEED) || exit 1; done
	# Under the real onnxruntime, with two fills of fresh memory: one hash of all outputs.
	for fill in 65 190; do \
	  LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1:max_malloc_fill_size=1000000000:malloc_fill_byte=$$fill \
	  PYTHONPATH=.:export:runtime $(RUN) -m tests.kernels.hostile build/sanitize/edgesparse_kernels.so $(SEED) $(MODELS) \
	  > build/sanitize/fill_$$fill || exit 1; cat build/sanitize/fill_$$fill; done
	cmp build/sanitize/fill_65 build/sanitize/fill_190

# More random calls of what `test-sanitize` has built: CALLS of them on the first table, the one that is chosen
# without a pin, and a quarter on each other.
fuzz-kernels:
	calls=$(CALLS); for isa in $$(build/sanitize/test_kernels --tables | tr -d ,); do \
	  ASAN_OPTIONS=detect_stack_use_after_return=0 EDGESPARSE_ISA=$$isa \
	  build/sanitize/fuzz_operators build/sanitize/edgesparse_kernels.so $$calls $(SEED) || exit 1; \
	  calls=$$(($(CALLS) / 4)); done
