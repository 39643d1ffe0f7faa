package wire

import (
	"bytes"
	"errors"
	"testing"
)

// RFC 9001, appendix A.3: the server's first Initial packet, 135 bytes, to a client whose DCID was 8394c8f03e515708.
const (
	serverInitial = "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a" +
		"5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3" +
		"dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84" +
		"022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc4" +
		"2158407dd074ee"
	serverInitialPayload = "02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf739" +
		"88cfc79825df566dc5430b9a045a1200130100002e00330024001d00209d3c94" +
		"0d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a002b00" +
		"020304"
)

func initialKeys(t *testing.T, server bool) *Keys {
	t.Helper()
	secret, s := InitialSecrets(Version1, fromHex(t, "8394c8f03e515708"))
	if server {
		secret = s
	}
	k, err := NewKeys(SuiteAES128GCM, Version1, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestOpenLong(t *testing.T) {
	pkt := fromHex(t, serverInitial)
	datagram := append(bytes.Clone(pkt), "coalesced"...)
	h, err := ParseLongHeader(datagram)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(datagram)
	var o Opened
	if err := initialKeys(t, true).OpenLong(nil, datagram, &h, 0, &o); err != nil {
		t.Fatal(err)
	}
	if o.PacketNumber != 1 || o.PNLen != 2 || o.Header != 20 {
		t.Errorf("number %d of %d bytes, header %d; want 1, 2, 20", o.PacketNumber, o.PNLen, o.Header)
	}
	if want := fromHex(t, serverInitialPayload); !bytes.Equal(o.Payload, want) {
		t.Errorf("payload %x, want %x", o.Payload, want)
	}
	if !bytes.Equal(datagram, before) {
		t.Error("the datagram was changed")
	}
}

func TestOpenLongErrors(t *testing.T) {
	good := fromHex(t, serverInitial)
	null, err := NewKeys(SuiteNull, Version1, nil)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		keys   *Keys
		change func(b []byte, h *LongHeader) []byte
		want   error
	}{
		{"other direction's keys", initialKeys(t, false), nil, ErrAuth},
		{"null suite", null, nil, ErrNotQUIC},
		{"changed header", nil, func(b []byte, _ *LongHeader) []byte { b[8] ^= 1; return b }, ErrAuth},
		{"changed payload", nil, func(b []byte, _ *LongHeader) []byte { b[len(b)-20] ^= 1; return b }, ErrAuth},
		{"retry", nil, func(b []byte, h *LongHeader) []byte { h.Type = LongRetry; return b }, ErrNotQUIC},
		{"cut off", nil, func(b []byte, _ *LongHeader) []byte { return b[:100] }, ErrTruncated},
		{"too short for a sample", nil, func(b []byte, h *LongHeader) []byte { h.PacketLen = h.HeaderLen + 19; return b }, ErrTruncated},
		{"zero header", nil, func(b []byte, h *LongHeader) []byte { *h = LongHeader{Type: LongInitial}; return b }, ErrTruncated},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(good)
			h, err := ParseLongHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				b = tt.change(b, &h)
			}
			k := tt.keys
			if k == nil {
				k = initialKeys(t, true)
			}
			o := Opened{PacketNumber: 77}
			if err := k.OpenLong(nil, b, &h, 0, &o); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if o.PacketNumber != 77 {
				t.Error("an error changed what Open returns")
			}
		})
	}
}

// sealLong makes a Handshake packet; the first byte is written before protection.
func sealLong(k *Keys, first byte, pn uint64, payload []byte) []byte {
	pnLen := int(first&3) + 1
	b := []byte{first, 0, 0, 0, 1, 0, 0}
	b = AppendVarintLen(b, uint64(pnLen+len(payload)+TagLen), 2)
	pnAt := len(b)
	b = AppendPacketNumber(b, pn, pnLen)
	k.setNonce(&k.gens[1], pn)
	b = k.gens[1].aead.Seal(b, k.nonce[:], payload, b)
	k.hp.mask(&k.mask, b[pnAt+4:pnAt+4+TagLen])
	b[0] ^= k.mask[0] & 0x0f
	for i := range pnLen {
		b[pnAt+i] ^= k.mask[1+i]
	}
	return b
}

// TestOpenLongMasks opens packets with many different masks, of all lengths of the number, with and without reserved bits.
func TestOpenLongMasks(t *testing.T) {
	k := initialKeys(t, true)
	payload := []byte("any frames")
	for pn := range uint64(64) {
		first := 0xe0 | byte(pn&3)
		var want error
		if pn&4 != 0 {
			first |= 4 << (pn >> 3 & 1)
			want = ErrReserved
		}
		b := sealLong(k, first, pn, payload)
		h, err := ParseLongHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		var o Opened
		if err := k.OpenLong(nil, b, &h, pn, &o); !errors.Is(err, want) {
			t.Errorf("number %d: error %v, want %v", pn, err, want)
		} else if err == nil && (o.PacketNumber != pn || !bytes.Equal(o.Payload, payload)) {
			t.Errorf("number %d: %d, payload %q", pn, o.PacketNumber, o.Payload)
		}
	}
}
