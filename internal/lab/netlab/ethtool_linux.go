package netlab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// offloads are the features that make what an interface hands to its peer differ from what a cable would carry, by their
// names in the kernel (net/ethtool/common.c). A kernel that lacks one does not do it.
//
// Checksums and segmentation are then done in the stack before the packet reaches the interface: sends with UDP_SEGMENT
// still save the system calls (before Linux 6.11 they fail with EIO on such an interface, and quic-go goes on without).
var offloads = []string{
	"tx-checksum-ipv4", "tx-checksum-ip-generic", "tx-checksum-ipv6",
	"tx-udp-segmentation", "tx-gso-list",
	"rx-gro", "rx-gro-list", "rx-udp-gro-forwarding",
	"tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation", // see batches
}

// batches makes an interface receive as network cards do: what has arrived is passed up in batches (NAPI), traffic control sees all
// of a batch before a socket gets the first packet of it. Otherwise veth passes each packet up to the socket by itself, and the next one
// waits until whoever reads that socket has been woken. No packets are merged, as they are of UDP and for sockets without UDP_GRO.
// veth does so only if the peer does no segmentation of TCP (drivers/net/veth.c, veth_skb_is_eligible_for_gro).
const batches = "rx-gro"

// Layouts of include/uapi/linux/ethtool.h.
const (
	stringLen   = 32   // ETH_GSTRING_LEN
	featureSet  = 4    // ETH_SS_FEATURES
	getFeatures = 0x3a // ETHTOOL_GFEATURES
	maxStrings  = 4096 // far beyond what a set has
)

// setOffloads switches the offloads of an interface in the calling thread's namespace off, except those in keep, which it switches
// on, and checks that they are.
func setOffloads(name string, keep ...string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := stringSet(fd, name, featureSet)
	if err != nil {
		return fmt.Errorf("features: %w", err)
	}
	// struct ethtool_sfeatures: cmd, number of blocks, blocks of 32 features each with valid and requested.
	blocks := (len(names) + 31) / 32
	set := make([]uint32, 2+2*blocks)
	set[0], set[1] = unix.ETHTOOL_SFEATURES, uint32(blocks)
	var bits []int
	for bit, feature := range names {
		if !slices.Contains(offloads, feature) {
			continue
		}
		bits = append(bits, bit)
		set[2+2*(bit/32)] |= 1 << (bit % 32)
		if slices.Contains(keep, feature) {
			set[2+2*(bit/32)+1] |= 1 << (bit % 32)
		}
	}
	if err := ethtool(fd, name, set); err != nil {
		return fmt.Errorf("set features: %w", privileges(err))
	}
	// struct ethtool_gfeatures: the same, with available, requested, active, never changed.
	get := make([]uint32, 2+4*blocks)
	get[0], get[1] = getFeatures, uint32(blocks)
	if err := ethtool(fd, name, get); err != nil {
		return fmt.Errorf("get features: %w", err)
	}
	for _, bit := range bits {
		on := get[2+4*(bit/32)+2]&(1<<(bit%32)) != 0
		if on != slices.Contains(keep, names[bit]) {
			return fmt.Errorf("the kernel does not let %s be switched (it is on: %t)", names[bit], on)
		}
	}
	return nil
}

// stringSet returns the names of one of the kernel's sets, for features by their bits.
func stringSet(fd int, name string, id uint32) ([]string, error) {
	// struct ethtool_sset_info: cmd, reserved, mask of the wanted sets as 64 bits, their sizes.
	info := make([]uint32, 5)
	info[0] = unix.ETHTOOL_GSSET_INFO
	mask := (*[8]byte)(unsafe.Pointer(&info[2]))
	binary.NativeEndian.PutUint64(mask[:], 1<<id)
	if err := ethtool(fd, name, info); err != nil {
		return nil, fmt.Errorf("count names: %w", err)
	}
	count := int(info[4])
	if count == 0 || count > maxStrings {
		return nil, errors.New("the kernel does not tell the names")
	}
	// struct ethtool_gstrings: cmd, set, count, names.
	list := make([]uint32, 3+count*stringLen/4)
	list[0], list[1], list[2] = unix.ETHTOOL_GSTRINGS, id, uint32(count)
	if err := ethtool(fd, name, list); err != nil {
		return nil, fmt.Errorf("list names: %w", err)
	}
	names := make([]string, count)
	text := unsafe.Slice((*byte)(unsafe.Pointer(&list[3])), count*stringLen)
	for i := range names {
		s, _, _ := bytes.Cut(text[i*stringLen:(i+1)*stringLen], []byte{0})
		names[i] = string(s)
	}
	return names, nil
}

// ethtool does one ETHTOOL request, which starts with its number.
func ethtool(fd int, name string, request []uint32) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	// struct ifreq with a pointer as its data, which unix.Ifreq does not offer.
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(req.name[:], ifr.Name())
	req.data = unsafe.Pointer(&request[0])
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return errno
	}
	return nil
}
