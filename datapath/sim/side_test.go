package sim_test

import (
	"net/netip"

	"github.com/fastrelay/fastrelay/datapath/datapathtest"
)

// side returns the n-th host.
func side(n byte, port uint16) datapathtest.Side {
	return datapathtest.Side{MAC: [6]byte{2, 0, 0, 0, 0, n}, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), port)}
}
