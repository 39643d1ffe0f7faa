#!/usr/bin/env bash
# Runs every fuzz target of the module for a time (default 30s), one after the other. A finding ends it with an error.
# What makes inputs smaller is bounded: by default it may take a minute for each new one, in which the target stands still at 0 execs/s, and
# where coverage depends on a clock or on chance it does not come to an end before.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-30s}
for dir in $(go list -f '{{.Dir}}' ./...); do
  names=$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go 2>/dev/null | awk '{print $2}' || true)
  for name in $names; do
    echo "== ${dir#"$PWD"/} $name"
    go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 100x "$dir"
  done
done
