# fastrelay. Users need Go, git and make; `make generate`, `make lint` and `make test-kernel` say below what they need.
SHELL := bash
GO ?= go
BIN := $(CURDIR)/.bin
GOLANGCI_VERSION := v2.13.0
FUZZTIME ?= 30s

.PHONY: help build demo test test-race test-kernel generate verify-generated lint fuzz bench clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build ./fastrelay
	$(GO) build -o fastrelay ./cmd/fastrelay

demo: build ## a video through the relay, with the fast path and without; results in out/ (as root: in the kernel)
	./fastrelay demo --out out

test: ## all tests that need no root: properties first, then the rest
	$(GO) test ./props ./datapath/... ./internal/wire/...
	$(GO) test ./...

test-race: ## the same with the race detector (needs a C compiler)
	$(GO) test -race ./...

test-kernel: ## tests on the kernel, in network namespaces of their own (root); a skip is a failure
	@[ "$$(id -u)" = 0 ] || { echo "make test-kernel needs root: it makes network namespaces and loads BPF programs; run sudo make test-kernel" >&2; exit 1; }
	FASTRELAY_KERNEL_TESTS=1 $(GO) test -count=1 -p 1 ./datapath/ebpf/... ./internal/lab/... ./cmd/...

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
