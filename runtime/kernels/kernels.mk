# Words of the native kernels; the top Makefile includes this file.
KERNELS := runtime/kernels
RUN ?= .venv/bin/python
.PHONY: prove-kernels bench-attention test-arm64 test-sanitize

prove-kernels:  ## the kernels' claims, PASS or FAIL a line (QUICK=1: under 5 minutes)
	$(RUN) -m benchmarks.prove_kernels

bench-attention:  ## sparse attention against onnxruntime's fused dense attention
	$(RUN) -m benchmarks.attention -o bench-results

test-arm64:  ## the kernels built for AArch64 run under qemu-user
	cmake -S $(KERNELS) -B build/arm64 -DEDGESPARSE_TESTS=ON -DCMAKE_SYSTEM_NAME=Linux \
	  -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
	cmake --build build/arm64 --parallel 2
	for isa in neon scalar; do EDGESPARSE_ISA=$$isa qemu-aarch64-static -L /usr/aarch64-linux-gnu build/arm64/test_kernels || exit 1; done

test-sanitize:  ## address and undefined-behaviour sanitizers on the kernels' own test program
	cmake -S $(KERNELS) -B build/sanitize -DEDGESPARSE_TESTS=ON -DEDGESPARSE_SANITIZE=address,undefined
	cmake --build build/sanitize --parallel 2
	for isa in "" scalar; do EDGESPARSE_ISA=$$isa build/sanitize/test_kernels || exit 1; done
