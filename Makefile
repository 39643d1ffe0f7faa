# fastrelay. Users need Go, git and make; `make generate`, `make lint` and `make test-kernel` say below what they need.
SHELL := bash
GO ?= go
BIN := $(CURDIR)/.bin
GOLANGCI_VERSION := v2.13.0
FUZZTIME ?= 30s

.PHONY: help build demo study test test-race test-scenarios test-nightly test-kernel test-kernels soak diff generate verify-generated lint fuzz bench clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build ./fastrelay
	$(GO) build -o fastrelay ./cmd/fastrelay

demo: build ## a video through the relay, with the fast path and without; results in out/ (as root: in the kernel)
	./fastrelay demo --out out

study: build ## drop heuristics compared over simulated bottlenecks; out/study/report.html
	./fastrelay study

test: ## all tests that need no root: properties first, then the rest
	$(GO) test ./props ./datapath/... ./internal/wire/...
	$(GO) test ./...

test-race: ## the same with the race detector (needs a C compiler)
	$(GO) test -race ./...

SEEDS ?= 1000
test-scenarios: ## random whole systems in virtual time, SEEDS of them (default 1000); make test runs 200
	$(GO) test ./relay -run TestScenarios -count=1 -timeout 0 -seeds=1-$(SEEDS)

test-nightly: ## the same with 100,000
	$(MAKE) test-scenarios SEEDS=100000

test-kernel: ## tests on the kernel, in network namespaces of their own (root); a skip is a failure
	@[ "$$(id -u)" = 0 ] || { echo "make test-kernel needs root: it makes network namespaces and loads BPF programs; run sudo make test-kernel" >&2; exit 1; }
	FASTRELAY_KERNEL_TESTS=1 $(GO) test -count=1 -p 1 ./datapath/ebpf/... ./internal/lab/... ./command

test-kernels: ## the tests of datapath/ebpf on Debian's kernels 6.1 and 6.12, in emulated machines (needs qemu-system-x86, cpio, xz-utils)
	./scripts/test-kernels.sh

soak: ## ten minutes of subscribers that come and go, on the kernel datapath (root); FASTRELAY_SOAK sets another time
	@[ "$$(id -u)" = 0 ] || { echo "make soak needs root: it makes network namespaces and loads BPF programs; run sudo make soak" >&2; exit 1; }
	FASTRELAY_SOAK=$${FASTRELAY_SOAK:-10m} FASTRELAY_KERNEL_TESTS=1 $(GO) test -count=1 -timeout 0 -run TestSoakOnTheKernel -v ./command

diff: ## simulator, C rules and kernel compared on N random traces and 100·N packets (root): make diff SEED=1 N=200
	GO='$(GO)' SEED='$(SEED)' N='$(N)' ./scripts/diff.sh

generate: ## rebuild the committed BPF objects (needs clang-19, llvm-19 and libbpf-dev)
	$(GO) generate ./datapath/ebpf/...

verify-generated: ## rebuild the BPF objects and compare them with the committed ones
	./scripts/verify-generated.sh

lint: $(BIN)/golangci-lint ## vet, style and the import rules
	$(BIN)/golangci-lint run ./...

$(BIN)/golangci-lint:
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

fuzz: ## every fuzz target for FUZZTIME (default 30s)
	./scripts/fuzz.sh $(FUZZTIME)

bench: ## benchmarks of the packet path
	$(GO) test -run '^$$' -bench . -benchmem ./internal/wire/... ./datapath/... ./quicadapt/...

clean: ## remove what was built
	rm -rf fastrelay out $(BIN)
