#!/usr/bin/env bash
# Runs every fuzz target of the module for FUZZTIME each.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${FUZZTIME:-3s}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Two workers a target keep a small machine usable. By default the fuzzer takes a
# minute to make each new input smaller, of large ones in vain: no time is left.
fuzz() { go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 10x -parallel 2 "$1" >"$log" 2>&1; }

passed=0 failed=0
for file in $(git grep -l -E '^func Fuzz[A-Z]' -- '*_test.go'); do
  package=./$(dirname "$file")
  for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
    # At the end of its time the fuzzer at times takes its own deadline for a
    # failure and names no input; that is tried once more.
    if fuzz "$package" "$target" ||
      { grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log" && fuzz "$package" "$target"; }; then
      passed=$((passed + 1))
      echo "fuzzed $package $target: $(grep -o 'execs: [0-9]*' "$log" | tail -n 1)"
    else
      failed=$((failed + 1))
      echo "FAIL   $package $target"
      cat "$log"
    fi
  done
done
echo "fuzz: $passed passed, $failed failed"
[ "$failed" = 0 ]
