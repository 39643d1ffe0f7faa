package capture

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/bpf"
)

// frame builds an Ethernet frame with a UDP or, if so, a TCP segment from port 1000 to port 4433.
func frame(t *testing.T, src, dst string, tcp bool, options []layers.IPv4Option, fragment uint16) []byte {
	t.Helper()
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	var ip gopacket.SerializableLayer
	proto := layers.IPProtocolUDP
	if tcp {
		proto = layers.IPProtocolTCP
	}
	if s.Is4() {
		ip = &layers.IPv4{Version: 4, Protocol: proto, SrcIP: s.AsSlice(), DstIP: d.AsSlice(), Options: options, FragOffset: fragment}
	} else {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, NextHeader: proto, SrcIP: s.AsSlice(), DstIP: d.AsSlice()}
	}
	var transport gopacket.SerializableLayer = &layers.UDP{SrcPort: 1000, DstPort: 4433}
	if tcp {
		transport = &layers.TCP{SrcPort: 1000, DstPort: 4433}
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, eth, ip, transport, gopacket.Payload("payload"))
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestFilter(t *testing.T) {
	v4 := frame(t, "10.0.0.1", "10.0.0.2", false, nil, 0)
	v6 := frame(t, "fd00::1", "fd00::2", false, nil, 0)
	opts := frame(t, "10.0.0.1", "10.0.0.2", false, []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 1}}, 0)
	arp := append([]byte(nil), v4...)
	arp[12], arp[13] = 8, 6
	tests := []struct {
		name  string
		frame []byte
		port  uint16
		want  bool
	}{
		{"IPv4 destination", v4, 4433, true},
		{"IPv4 source", v4, 1000, true},
		{"IPv4 other port", v4, 4434, false},
		{"IPv4 any port", v4, 0, true},
		{"IPv4 with options", opts, 4433, true},
		{"IPv4 with options, other port", opts, 4434, false},
		{"IPv4 fragment", frame(t, "10.0.0.1", "10.0.0.2", false, nil, 8), 4433, false},
		{"IPv4 TCP", frame(t, "10.0.0.1", "10.0.0.2", true, nil, 0), 4433, false},
		{"IPv4 TCP, any port", frame(t, "10.0.0.1", "10.0.0.2", true, nil, 0), 0, false},
		{"IPv6 destination", v6, 4433, true},
		{"IPv6 source", v6, 1000, true},
		{"IPv6 other port", v6, 4434, false},
		{"IPv6 any port", v6, 0, true},
		{"IPv6 TCP", frame(t, "fd00::1", "fd00::2", true, nil, 0), 0, false},
		{"ARP", arp, 0, false},
		{"short", v4[:20], 4433, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			raw, err := filter(tt.port)
			if err != nil {
				t.Fatal(err)
			}
			program, ok := bpf.Disassemble(raw)
			if !ok {
				t.Fatal("program has unknown instructions")
			}
			vm, err := bpf.NewVM(program)
			if err != nil {
				t.Fatal(err)
			}
			n, err := vm.Run(tt.frame)
			if err != nil {
				t.Fatal(err)
			}
			if got := n > 0; got != tt.want {
				t.Errorf("let through: %v, want %v", got, tt.want)
			}
			if tt.want && n < len(tt.frame) {
				t.Errorf("cuts the packet off after %d of %d bytes", n, len(tt.frame))
			}
		})
	}
}
