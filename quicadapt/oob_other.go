//go:build !linux || !(amd64 || arm64)

package quicadapt

import "net"

func newOOBConn(*packetConn, *net.UDPConn) net.PacketConn { return nil }
