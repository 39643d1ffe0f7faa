#!/usr/bin/env bash
# Runs the kernel tests of datapath/ebpf on Debian's cloud kernels in emulated machines. KERNELS names the packages
# (default: the newest 6.1 and 6.12 that apt knows), LIMIT the seconds for each (default 600), RUN a pattern of tests, LOG the
# start of the names of files that keep the consoles. It passes only if every test did: one that is skipped is a failure.
# Needs no root and no KVM. It installs nothing, unless it is run as root with CI=true.
set -euo pipefail
cd "$(dirname "$0")/.."
limit=${LIMIT:-600}

need=()
command -v qemu-system-x86_64 >/dev/null || need+=(qemu-system-x86)
command -v cpio >/dev/null || need+=(cpio)
command -v xz >/dev/null || need+=(xz-utils)
if [ ${#need[@]} -gt 0 ]; then
  if [ "${CI:-}" != true ] || [ "$(id -u)" != 0 ]; then
    echo "test-kernels needs packages: apt-get install ${need[*]}" >&2
    exit 1
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}"
fi

work=$(mktemp -d)
qemu=
cleanup() {
  [ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# newest prints the package of the newest cloud kernel of a series.
newest() {
  apt-cache pkgnames "linux-image-$1." | grep -E "^linux-image-${1//./\\.}\.[0-9].*-cloud-amd64$" | sort -V | tail -n 1
}
if [ -z "${KERNELS:-}" ]; then
  for series in 6.1 6.12; do
    package=$(newest $series || true)
    [ -n "$package" ] || { echo "apt knows no cloud kernel $series: run apt-get update, or name packages in KERNELS" >&2; exit 1; }
    KERNELS="${KERNELS:-} $package"
  done
fi

# module NAME puts a module, after those that it depends on, into $root/modules, named in the order of loading.
module() {
  local name=$1 file dependency
  case " $loaded " in *" $name "*) return ;; esac
  loaded="$loaded $name"
  file=$(find "$tree/lib/modules" -name "$name.ko*" | head -n 1)
  if [ -z "$file" ]; then
    grep -q "/$name.ko$" "$tree"/lib/modules/*/modules.builtin && return
    echo "the kernel has no module $name" >&2
    exit 1
  fi
  case $file in
    *.xz) xz -dc "$file" >"$work/module" ;;
    *) cp "$file" "$work/module" ;;
  esac
  for dependency in $(tr '\0' '\n' <"$work/module" | sed -n 's/^depends=//p' | tr ',' ' '); do
    module "$dependency"
  done
  count=$((count + 1))
  mv "$work/module" "$(printf '%s/modules/%02d-%s.ko' "$root" "$count" "$name")"
}

CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go test -c -o "$work/test" ./datapath/ebpf
CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -o "$work/init" ./scripts/kernelinit

failed=0
for package in $KERNELS; do
  tree=$work/$package root=$work/$package.root
  mkdir -p "$root"/{modules,src/datapath/ebpf,src/bpf}
  (cd "$work" && apt-get download -qq "$package" 2>/dev/null) || { echo "cannot download $package" >&2; exit 1; }
  dpkg-deb -x "$work/${package}"_*.deb "$tree"
  loaded= count=0
  for name in veth sch_ingress cls_bpf; do module $name; done
  cp "$work/init" "$work/test" "$root"/
  cp bpf/*.h "$root/src/bpf"/
  printf '%s\n' -test.v -test.run "${RUN:-.}" -test.timeout "${limit}s" >"$root/args"
  (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initramfs"
  log=$work/log
  echo "== $package: $(date +%T), at most $limit s"
  begin=$SECONDS
  # The init prints "kernelinit: ok" if the test binary exited with 0.
  timeout "$limit" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp "${CPUS:-1}" -m 1024 -nographic -no-reboot -nodefaults -serial stdio \
    -kernel "$tree"/boot/vmlinuz-* -initrd "$work/initramfs" -append "console=ttyS0 quiet panic=-1 rdinit=/init" \
    </dev/null >"$log" 2>&1 &
  qemu=$!
  status=0
  wait "$qemu" || status=$?
  qemu=
  tr -d '\r' <"$log" >"$log.txt"
  [ -z "${LOG:-}" ] || cp "$log.txt" "$LOG.$package"
  passed=$(grep -cE '^ *--- PASS' "$log.txt" || true)
  skipped=$(grep -cE '^ *--- SKIP' "$log.txt" || true)
  broken=$(grep -cE '^ *--- FAIL' "$log.txt" || true)
  why=
  if [ "$status" = 124 ]; then why="the time limit of $limit s struck"
  elif [ "$status" != 0 ]; then why="the machine ended with status $status"
  elif ! grep -q '^kernelinit: ok$' "$log.txt"; then why="the tests failed"
  elif [ "$skipped" != 0 ]; then why="tests were skipped"
  elif [ "$passed" = 0 ]; then why="no test ran"
  fi
  if [ -n "$why" ]; then
    failed=1
    grep -vE '^ *(=== RUN|--- PASS)' "$log.txt" | tail -n 100 >&2
  fi
  echo "$package: $passed passed, $broken failed, $skipped skipped, $((SECONDS - begin)) s: ${why:-ok}"
  rm -rf "$tree" "$root" "$work/${package}"_*.deb "$work/initramfs"
done
exit $failed
