#!/usr/bin/env bash
# Compares the three implementations of the datapath's rules: C with Go on random packets, and the simulator with the kernel on random traces.
# SEED (default 1) is the first seed and N (default 200) the number of traces; there are 100 packets for each. SEED=x N=1 plays one trace.
# On a terminal it shows progress. The kernel's part needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
  echo "make diff needs root: it makes network namespaces and loads BPF programs; run sudo make diff (without root: make test compares C with Go, and simulators)" >&2
  exit 1
fi
export FASTRELAY_KERNEL_TESTS=1 FASTRELAY_DIFF_SEED=${SEED:-1} FASTRELAY_DIFF_TRACES=${N:-200}
export FASTRELAY_DIFF_PACKETS=$((FASTRELAY_DIFF_TRACES * 100))
[ -t 2 ] && export FASTRELAY_DIFF_PROGRESS=1
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
${GO:-go} test -c -o "$bin/bpf.test" ./bpf
${GO:-go} test -c -o "$bin/ebpf.test" ./datapath/ebpf
status=0
# Tests read headers beside them, so each runs in its package's folder.
for part in "bpf bpf.test TestRandomPackets" "datapath/ebpf ebpf.test TestTraces"; do
  read -r dir binary name <<<"$part"
  if ! (cd "$dir" && "$bin/$binary" -test.run "^$name\$" -test.timeout 0 >"$bin/log"); then
    cat "$bin/log"
    status=1
  fi
done
exit $status
