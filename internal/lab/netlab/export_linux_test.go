package netlab

import (
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Stat returns one of the figures that `ethtool -S` prints of an interface in the calling thread's namespace.
func Stat(name, stat string) (uint64, error) {
	const statsSet = 1 // ETH_SS_STATS
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	names, err := stringSet(fd, name, statsSet)
	if err != nil {
		return 0, err
	}
	at := slices.Index(names, stat)
	if at < 0 {
		return 0, fmt.Errorf("%s has no %s: %q", name, stat, names)
	}
	// struct ethtool_stats: cmd, number of figures, figures.
	request := make([]uint32, 2+2*len(names))
	request[0], request[1] = unix.ETHTOOL_GSTATS, uint32(len(names))
	if err := ethtool(fd, name, request); err != nil {
		return 0, err
	}
	return *(*uint64)(unsafe.Pointer(&request[2+2*at])), nil
}
