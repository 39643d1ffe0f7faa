package netlab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
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
}

// Layouts of include/uapi/linux/ethtool.h.
const (
	featureNameLen = 32     // ETH_GSTRING_LEN
	featureSet     = 4      // ETH_SS_FEATURES
	getFeatures    = 0x3a   // ETHTOOL_GFEATURES
	maxFeatures    = 64 * 8 // far beyond what kernels have
)

// noOffloads switches the offloads of an interface in the calling thread's namespace off, and checks that they are.
func noOffloads(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := featureNames(fd, name)
	if err != nil {
		return err
	}
	// struct ethtool_sfeatures: cmd, number of blocks, blocks of 32 features each with valid and requested.
	blocks := (len(names) + 31) / 32
	set := make([]uint32, 2+2*blocks)
	set[0], set[1] = unix.ETHTOOL_SFEATURES, uint32(blocks)
	var bits []int
	for bit, feature := range names {
		for _, o := range offloads {
			if feature == o {
				bits = append(bits, bit)
				set[2+2*(bit/32)] |= 1 << (bit % 32)
			}
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
		if get[2+4*(bit/32)+2]&(1<<(bit%32)) != 0 {
			return fmt.Errorf("the kernel keeps %s on", names[bit])
		}
	}
	return nil
}

// featureNames returns the names of the features that the kernel knows, by their bits.
func featureNames(fd int, name string) ([]string, error) {
	// struct ethtool_sset_info: cmd, reserved, mask of the wanted sets as 64 bits, their sizes.
	info := make([]uint32, 5)
	info[0] = unix.ETHTOOL_GSSET_INFO
	mask := (*[8]byte)(unsafe.Pointer(&info[2]))
	binary.NativeEndian.PutUint64(mask[:], 1<<featureSet)
	if err := ethtool(fd, name, info); err != nil {
		return nil, fmt.Errorf("count features: %w", err)
	}
	count := int(info[4])
	if count == 0 || count > maxFeatures {
		return nil, errors.New("the kernel does not tell the features")
	}
	// struct ethtool_gstrings: cmd, set, count, names.
	list := make([]uint32, 3+count*featureNameLen/4)
	list[0], list[1], list[2] = unix.ETHTOOL_GSTRINGS, featureSet, uint32(count)
	if err := ethtool(fd, name, list); err != nil {
		return nil, fmt.Errorf("list features: %w", err)
	}
	names := make([]string, count)
	text := unsafe.Slice((*byte)(unsafe.Pointer(&list[3])), count*featureNameLen)
	for i := range names {
		s, _, _ := bytes.Cut(text[i*featureNameLen:(i+1)*featureNameLen], []byte{0})
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
