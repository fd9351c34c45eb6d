# Two commands show the whole: make demo, make test. Both need Go, git and make;
# the other programs are found, or fetched without root, by "zonebroker deps".

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

export CGO_ENABLED ?= 0

# When a package's tests count as stuck. The end-to-end tests take minutes on two
# busy cores.
TIMEOUT ?= 30m
# How long each fuzz target runs.
FUZZTIME ?= 3s
# Passed on to the demo, as in: make demo ARGS=--keep
ARGS ?=

# Which benchmarks, for how long and how often each, and how they are printed
# (table, json).
BENCH ?= .
BENCHTIME ?= 1s
COUNT ?= 1
OUTPUT ?= table

# How long each row of bench-store runs.
STORETIME ?= 2s

# Packages that mutate changes.
PKGS ?= ./verifier/...

# Missing programs are fetched after asking at a terminal; without one, CI=1 or
# YES=--yes gives the leave.
YES ?=

HOST_ENV := .cache/host.env
use_host := while IFS= read -r line; do export "$$line"; done < $(HOST_ENV)

# Packages whose tests need no database and no TPM.
FAST := ./verifier/... ./broker/claim/... ./broker/policy/... ./broker/ledger/... ./broker/issuer/... ./broker/api/...
# Packages that run things at the same time.
CONCURRENT := ./store/... ./broker/...

.PHONY: help demo test check bench bench-store bench-history bench-compare build race mutate fuzz deps test-fetch go-version

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

demo: build ## show the whole story on this machine, then clean up (ARGS=... is passed on)
	@bin/zonebroker demo $(YES) $(ARGS)

test: deps ## run all tests with a real Postgres and real software TPMs, then each fuzz target for FUZZTIME
	@$(use_host); for dir in . test/oracle; do \
	    code=0; go test -C $$dir -timeout $(TIMEOUT) -json ./... || code=$$?; \
	    echo "{\"Action\":\"exit\",\"Output\":\"$$code\",\"Dir\":\"$$dir\"}"; \
	  done | go run ./test/count -again 3 go test
	@$(MAKE) fuzz

check: go-version ## format, vet, staticcheck, architecture, and the tests that need no database (30 s when warm)
	@unformatted=$$(go tool gofumpt -l $$(git ls-files -co --exclude-standard '*.go')); \
	  if [ -n "$$unformatted" ]; then echo "gofumpt would change:"; echo "$$unformatted"; exit 1; fi
	@go vet ./...
	@go vet -tags failpoint,fetch,benchhistory ./...
	@go vet -C test/oracle ./...
	@go tool staticcheck ./...
	@go test -run '^TestArchitecture' ./test
	@go test $(FAST)

bench: deps ## run the benchmarks that BENCH names (default all): a table, or JSON with OUTPUT=json; keeps the text in .cache/bench
	@mkdir -p .cache/bench
	@$(use_host); kept=.cache/bench/$$(date -u +%Y%m%dT%H%M%SZ).txt; \
	  go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -count $(COUNT) -timeout 60m \
	    $$(git grep -l '^func Benchmark' -- '*_test.go' | xargs -r -n1 dirname | sort -u | sed 's|^|./|') \
	    | tee "$$kept" | go run ./test/benchtable -o $(OUTPUT); \
	  echo "kept in $$kept" >&2

bench-store: deps ## what a commit costs for 1 to 1024 callers, beside one row a commit and the bare disk (STORETIME=2s a row; OUTPUT=json)
	@mkdir -p .cache/bench
	@$(use_host); kept=.cache/bench/store-$$(date -u +%Y%m%dT%H%M%SZ).txt; \
	  go test -run '^$$' -bench '^BenchmarkStore$$' -benchtime $(STORETIME) -count $(COUNT) -timeout 60m ./store \
	    | tee "$$kept" | go run ./test/benchtable -o $(OUTPUT); \
	  echo "kept in $$kept" >&2

# bench-history needs 20 GB and half an hour for ten million rows, and removes all
# it made. It stands outside "make test".
ROWS ?= 10000000
NODES ?= 10000
DIR ?=

bench-history: deps ## load ROWS (10 million) of NODES (10 000) into a Postgres under DIR and ask everything at a tenth and at all of them
	@mkdir -p .cache/bench
	@$(use_host); program=.cache/bench/history.test; kept=$$PWD/.cache/bench/history-$$(date -u +%Y%m%dT%H%M%SZ).txt; \
	  go test -c -tags benchhistory -o "$$program" ./store; \
	  ROWS='$(ROWS)' NODES='$(NODES)' OUTPUT='$(OUTPUT)' DIR='$(DIR)' REPORT="$$kept" \
	    "$$program" -test.run '^TestBenchHistory$$' -test.timeout 6h >&2; \
	  cat "$$kept"; echo "kept in $$kept" >&2

bench-compare: go-version ## compare two kept texts of bench: make bench-compare A=before.txt B=after.txt
	@test -n "$(A)" -a -n "$(B)" || { echo "name two files: make bench-compare A=before.txt B=after.txt" >&2; exit 1; }
	@go tool benchstat "$(A)" "$(B)"

build: go-version ## build bin/zonebroker and bin/zoneagent
	@go build -trimpath -o bin/ ./cmd/...

race: deps ## run the packages with concurrency under the race detector (needs a C compiler)
	@$(use_host); export CGO_ENABLED=1; { code=0; go test -json -timeout $(TIMEOUT) -race $(CONCURRENT) || code=$$?; \
	    echo "{\"Action\":\"exit\",\"Output\":\"$$code\"}"; \
	  } | CGO_ENABLED=0 go run ./test/count -again 3 env CGO_ENABLED=1 go test -race

mutate: go-version ## look for checks of the verifier that no test would miss (PKGS names packages; minutes; exit 3 with survivors)
	@go run ./test/mutate -pkgs '$(PKGS)' -o $(OUTPUT)

fuzz: go-version ## run each fuzz target for FUZZTIME (default 3s)
	@FUZZTIME=$(FUZZTIME) test/fuzz.sh

deps: go-version ## find Postgres, swtpm, tpm2-tools, openssl, python3 and pgbouncer, or fetch them without root
	@mkdir -p .cache
	@go run ./cmd/zonebroker deps $(YES) --env $(HOST_ENV)

test-fetch: go-version ## prove the fetching of programs into an empty prefix (needs a network, Debian or Ubuntu)
	@go test -count=1 -tags fetch -run '^TestFetched' -v ./deploy/hostdeps

go-version:
	@found=$$(go version 2>/dev/null || true); minor=$$(sed -n 's/^go version.* go1\.\([0-9]*\).*/\1/p' <<<"$$found"); \
	  if [ "$${minor:-0}" -lt 26 ]; then \
	    echo "Zonebroker needs Go 1.26 or later, and this is $${found:-no Go at all}: get it from https://go.dev/dl/" >&2; exit 1; fi
