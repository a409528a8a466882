# Two commands are enough on a machine with Go and Docker:
#   make demo   watch a commit become running containers
#   make test   run the tests

SHELL := /bin/bash
GO ?= go
BIN := bin
LINT_VERSION := v2.15.0
COMPOSE_VERSION := $(shell $(GO) list -m -f '{{.Version}}' github.com/docker/compose/v5 2>/dev/null)
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w \
	-X github.com/varanhq/varan/internal/buildinfo.version=$(VERSION) \
	-X github.com/varanhq/varan/internal/buildinfo.commit=$(COMMIT) \
	-X github.com/docker/compose/v5/internal.Version=$(patsubst v%,%,$(COMPOSE_VERSION))
# The race detector needs a C compiler; without one the tests run without it.
RACE ?= $(shell command -v $${CC:-cc} >/dev/null 2>&1 && echo -race)
# Go's own limit is ten minutes a package, which the race detector can take on a busy machine.
TEST_TIMEOUT ?= 20m
E2E_TIMEOUT ?= 25m
FUZZTIME ?= 20s
SIM_FIRST ?= 1
SIM_SEEDS ?= 100
SIM_CASES ?= 1000
CRASH_ROUNDS ?= 100
CRASH ?= sample
CRASH_BUDGET ?= 60s
CRASH_WORKERS ?= 4

.PHONY: help build demo test e2e sim crash lint check bench fuzz generate generate-check fmt clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/varan and bin/varan-agent, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/varan ./cmd/varan-agent

demo: build ## a commit becomes running containers: core, agents, Noise and Docker for real
	./$(BIN)/varan demo

test: ## all tests that need no Docker
	$(GO) test $(RACE) -timeout $(TEST_TIMEOUT) ./...

e2e: build ## all tests that need Docker
	VARAN_BIN=$(CURDIR)/$(BIN)/varan VARAN_AGENT_BIN=$(CURDIR)/$(BIN)/varan-agent \
		$(GO) test -tags e2e -count=1 -timeout $(E2E_TIMEOUT) -p 1 ./agent/docker/... ./internal/e2e/...

crash: build ## kill real processes: CRASH_ROUNDS times (100), then before system calls for CRASH_BUDGET (60s) a scenario, or CRASH=all
	VARAN_BIN=$(CURDIR)/$(BIN)/varan VARAN_CRASH_ROUNDS=$(CRASH_ROUNDS) CRASH=$(CRASH) CRASH_BUDGET=$(CRASH_BUDGET) CRASH_WORKERS=$(CRASH_WORKERS) \
		$(GO) test -v -count=1 -timeout 300m -parallel $(CRASH_WORKERS) ./internal/crash

# One process with one thread for each processor: what a month does at a time, it does one thing
# after the other, and handing that from thread to thread would cost a fifth more.
sim: ## SIM_SEEDS simulated months of 20 servers (default 100) from SIM_FIRST on, and SIM_CASES of the model (1000)
	@mkdir -p $(BIN)
	$(GO) test -c -o $(BIN)/sim.test ./internal/sim
	cd internal/sim && ../../$(BIN)/sim.test -test.timeout 60m -test.run 'TestTheFleet' -rapid.checks=$(SIM_CASES)
	cd internal/sim && seq $(SIM_FIRST) $$(($(SIM_FIRST) + $(SIM_SEEDS) - 1)) | xargs -P $$(nproc) -I@ \
		env GOMAXPROCS=1 VARAN_SIM_FIRST=@ VARAN_SIM_SEEDS=1 ../../$(BIN)/sim.test -test.timeout 60m -test.v -test.run 'TestAMonth'

fmt: ## format the code
	$(GO) tool gofumpt -w . 2>/dev/null || gofumpt -w .

lint: $(BIN)/golangci-lint ## run the linters
	$(BIN)/golangci-lint run --allow-parallel-runners ./...

$(BIN)/golangci-lint:
	@mkdir -p $(BIN)
	@found=$$(command -v golangci-lint || true); \
	if [ -n "$$found" ] && "$$found" version 2>/dev/null | grep -q '$(LINT_VERSION:v%=%)'; then \
		ln -sf "$$found" $@; \
	else \
		echo "building golangci-lint $(LINT_VERSION) (a few minutes, once)"; \
		GOBIN=$(CURDIR)/$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION); \
	fi

generate: ## write generated files again
	$(GO) generate ./...

generate-check: ## fail when a generated file is stale
	$(GO) generate ./...
	git diff --exit-code -- schemas docs

check: build lint generate-check ## what must hold before a commit, tests apart

bench: build ## measure against floors and print the tables of docs/benchmarks.md
	VARAN_BIN=$(CURDIR)/$(BIN)/varan VARAN_AGENT_BIN=$(CURDIR)/$(BIN)/varan-agent $(GO) run ./bench $(BENCHFLAGS)
	$(GO) run ./bench/link
	VARAN_BIN=$(CURDIR)/$(BIN)/varan $(GO) run ./bench/language
	VARAN_BIN=$(CURDIR)/$(BIN)/varan $(GO) run ./bench/load
	VARAN_BIN=$(CURDIR)/$(BIN)/varan $(GO) run ./bench/keys

fuzz: ## every fuzz target for FUZZTIME (default 20s)
	@set -e; for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "== $$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

clean: ## remove what was built
	rm -rf $(BIN) dist
