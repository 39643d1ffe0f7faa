//go:build !linux || !(amd64 || arm64)

package quicadapt

import "net"

// newUDPConn has no segmentation offload to keep here.
func newUDPConn(p *packetConn, u *net.UDPConn) net.PacketConn { return &rawPacketConn{p, u} }
