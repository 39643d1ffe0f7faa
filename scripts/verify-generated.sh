#!/usr/bin/env bash
# Builds the BPF objects from bpf/ in a copy of the tree and compares them with the committed ones, byte for byte.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in clang-19 llvm-strip-19; do
  command -v "$tool" >/dev/null || { echo "verify-generated needs $tool: apt-get install clang-19 llvm-19 libbpf-dev" >&2; exit 1; }
done
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r go.mod go.sum bpf datapath internal "$copy"/
find "$copy/datapath/ebpf" -name '*_bpfel.*' -delete
(cd "$copy" && go generate ./datapath/ebpf/...)
status=0
for f in datapath/ebpf/*_bpfel.*; do
  if cmp -s "$f" "$copy/$f"; then
    echo "same: $f"
  else
    echo "differs from what bpf/ builds: $f; run make generate and commit it" >&2
    status=1
  fi
done
exit $status
