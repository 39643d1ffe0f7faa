package wire

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

const spinBit = 0x20

var allSuites = []Suite{SuiteNull, SuiteAES128GCM, SuiteAES256GCM, SuiteChaCha20Poly1305}

// testKeys returns two ends of one direction.
func testKeys(t testing.TB, s Suite) (sender, receiver *Keys) {
	t.Helper()
	secret := bytes.Repeat([]byte{0x5a}, s.secretLen())
	sender, err := NewKeys(s, Version1, secret)
	if err != nil {
		t.Fatal(err)
	}
	receiver, err = NewKeys(s, Version1, secret)
	if err != nil {
		t.Fatal(err)
	}
	return sender, receiver
}

// RFC 9001 and RFC 9369, appendix A.5: a whole ChaCha20-Poly1305 packet.
func TestShortHeaderVectors(t *testing.T) {
	for version, packet := range map[uint32]string{
		Version1: "4cfe4189655e5cd55c41f69080575d7999c25a5bfb",
		Version2: "5558b1c60ae7b6b932bc27d786f4bc2bb20f2162ba",
	} {
		k, err := NewKeys(SuiteChaCha20Poly1305, version, fromHex(t, keyVectors[2].secret))
		if err != nil {
			t.Fatal(err)
		}
		want := fromHex(t, packet)
		if got := k.Seal(nil, 0, nil, 654360564, 3, []byte{1}); !bytes.Equal(got, want) {
			t.Errorf("version %#x: sealed %x, want %x", version, got, want)
		}
		var o Opened
		if err := k.Open(nil, want, 0, 654360564, &o); err != nil {
			t.Fatal(err)
		}
		if o.PacketNumber != 654360564 || o.PNLen != 3 || o.Header != 4 || !bytes.Equal(o.Payload, []byte{1}) {
			t.Errorf("version %#x: opened %+v", version, o)
		}
	}
}

func TestSealOpen(t *testing.T) {
	for _, s := range allSuites {
		t.Run(s.String(), func(t *testing.T) {
			sender, receiver := testKeys(t, s)
			next := uint64(0)
			rapid.Check(t, func(t *rapid.T) {
				cid := rapid.SliceOfN(rapid.Byte(), 0, MaxCIDLen).Draw(t, "cid")
				pnLen := rapid.IntRange(1, 4).Draw(t, "pnLen")
				payload := rapid.SliceOfN(rapid.Byte(), 4-pnLen, 1400).Draw(t, "payload")
				pn := next + rapid.Uint64Max(60).Draw(t, "skip")
				pkt := sender.Seal([]byte("before"), 0, cid, pn, pnLen, payload)
				if string(pkt[:6]) != "before" {
					t.Fatal("Seal did not append")
				}
				pkt = pkt[6:]
				if len(pkt) != 1+len(cid)+pnLen+len(payload)+TagLen || !bytes.Equal(pkt[1:1+len(cid)], cid) {
					t.Fatalf("packet %x", pkt)
				}
				before := bytes.Clone(pkt)
				var o Opened
				if err := receiver.Open(nil, pkt, len(cid), next, &o); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(pkt, before) {
					t.Fatal("Open changed the packet")
				}
				if o.PacketNumber != pn || o.PNLen != pnLen || o.Phase != 0 || o.Generation != 0 || o.Header != 1+len(cid)+pnLen || !bytes.Equal(o.Payload, payload) {
					t.Fatalf("opened %+v", o)
				}
				next = pn + 1
			})
		})
	}
}

// P13: a packet with any bit changed is refused, and changes nothing.
func TestOpenRefusesEveryBit(t *testing.T) {
	for _, s := range allSuites[1:] {
		t.Run(s.String(), func(t *testing.T) {
			sender, receiver := testKeys(t, s)
			pkt := sender.Seal(nil, 0, []byte{1, 2, 3, 4}, 1000, 2, []byte("payload"))
			for bit := range 8 * len(pkt) {
				bad := bytes.Clone(pkt)
				bad[bit/8] ^= 1 << (bit % 8)
				o := Opened{PacketNumber: 42}
				err := receiver.Open(nil, bad, 4, 1000, &o)
				want := ErrAuth
				if bit == 7 || bit == 6 {
					want = ErrNotQUIC
				}
				if !errors.Is(err, want) || o.PacketNumber != 42 || o.Payload != nil || receiver.Generation() != 0 {
					t.Errorf("bit %d: error %v, opened %+v", bit, err, o)
				}
			}
			for cidLen := range MaxCIDLen + 1 {
				var o Opened
				if err := receiver.Open(nil, pkt, cidLen, 1000, &o); (err == nil) != (cidLen == 4) {
					t.Errorf("CID of %d bytes: error %v", cidLen, err)
				}
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	for _, s := range allSuites {
		t.Run(s.String(), func(t *testing.T) {
			sender, receiver := testKeys(t, s)
			pkt := sender.Seal(nil, 0, []byte{1, 2, 3, 4}, 0, 4, nil)
			var o Opened
			for n := range pkt {
				if err := receiver.Open(nil, pkt[:n], 4, 0, &o); !errors.Is(err, ErrTruncated) {
					t.Errorf("%d bytes: %v", n, err)
				}
			}
			for _, cidLen := range []int{-1, MaxCIDLen + 1} {
				if err := receiver.Open(nil, pkt, cidLen, 0, &o); !errors.Is(err, ErrCIDLen) {
					t.Errorf("CID of %d bytes: %v", cidLen, err)
				}
			}
			if err := receiver.Open(nil, pkt, 4, 0, &o); err != nil {
				t.Errorf("whole packet: %v", err)
			}
		})
	}
}

func TestOpenNull(t *testing.T) {
	_, k := testKeys(t, SuiteNull)
	good := fromHex(t, "41 aabb 0102 0304 00000000000000000000000000000000")
	for _, tc := range []struct {
		name  string
		at    int
		value byte
		err   error
	}{
		{"as it is", 0, 0x41, nil},
		{"tag not zero", len(good) - 1, 1, ErrAuth},
		{"phase 1", 0, 0x45, ErrAuth},
		{"reserved bit", 0, 0x51, ErrReserved},
	} {
		pkt := bytes.Clone(good)
		pkt[tc.at] = tc.value
		var o Opened
		if err := k.Open(nil, pkt, 2, 0, &o); !errors.Is(err, tc.err) {
			t.Errorf("%s: error %v, want %v", tc.name, err, tc.err)
		} else if err == nil && (o.PacketNumber != 0x0102 || o.Phase != 0 || o.Generation != 0 || !bytes.Equal(o.Payload, []byte{3, 4})) {
			t.Errorf("%s: opened %+v", tc.name, o)
		}
	}
	k.Update()
	if k.Generation() != 0 {
		t.Error("the null suite has a key update")
	}
	if got := k.Seal(nil, 7, []byte{0xaa, 0xbb}, 0x0102, 2, []byte{3, 4}); !bytes.Equal(got, good) {
		t.Errorf("sealed %x, want %x", got, good)
	}
}

// The peer may set the spin bit (RFC 9000, section 17.4).
func TestOpenSpinBit(t *testing.T) {
	for _, s := range allSuites[1:] {
		_, receiver := testKeys(t, s)
		var o Opened
		if err := receiver.Open(nil, sealWithFirstByte(t, s, 0, 0x40|spinBit, 9, []byte("payload")), 0, 9, &o); err != nil || string(o.Payload) != "payload" {
			t.Errorf("%v: %v, opened %+v", s, err, o)
		}
	}
}

func TestOpenReserved(t *testing.T) {
	for _, s := range allSuites[1:] {
		_, receiver := testKeys(t, s)
		for _, bits := range []byte{0x08, 0x10, 0x18} {
			for gen := range uint64(2) {
				pkt := sealWithFirstByte(t, s, gen, 0x40|bits|byte(gen)<<2, 9, []byte("payload"))
				o := Opened{PacketNumber: 42}
				if err := receiver.Open(nil, pkt, 0, 9, &o); !errors.Is(err, ErrReserved) || o.PacketNumber != 42 || receiver.Generation() != 0 {
					t.Errorf("%v, bits %#x: error %v, opened %+v", s, bits, err, o)
				}
			}
		}
	}
}

// sealWithFirstByte seals a packet without CID and with a 1-byte number, whose first byte is as given, reserved bits and all.
func sealWithFirstByte(t *testing.T, s Suite, gen uint64, first byte, pn uint64, payload []byte) []byte {
	t.Helper()
	k, _ := testKeys(t, s)
	g := k.generation(gen)
	k.setNonce(g, pn)
	pkt := []byte{first, byte(pn)}
	pkt = g.aead.Seal(pkt, k.nonce[:], payload, pkt)
	k.hp.mask(&k.mask, pkt[5:21])
	pkt[0] ^= k.mask[0] & 0x1f
	pkt[1] ^= k.mask[1]
	return pkt
}

func TestKeyUpdate(t *testing.T) {
	for _, s := range allSuites[1:] {
		t.Run(s.String(), func(t *testing.T) {
			sender, receiver := testKeys(t, s)
			next := uint64(0)
			// open says which generation the receiver has after a packet of generation gen.
			open := func(gen, pn, want uint64, wantErr error) {
				t.Helper()
				pkt := sender.Seal(nil, gen, []byte{9}, pn, 4, []byte("payload"))
				if len(pkt) == 0 {
					t.Fatalf("generation %d is not there to seal, current is %d", gen, sender.Generation())
				}
				var o Opened
				err := receiver.Open(nil, pkt, 1, next, &o)
				if !errors.Is(err, wantErr) || receiver.Generation() != want {
					t.Fatalf("packet %d of generation %d: %v, receiver at %d; want %v, %d", pn, gen, err, receiver.Generation(), wantErr, want)
				}
				if err != nil {
					return
				}
				if o.Generation != gen || o.Phase != byte(gen&1) || o.PacketNumber != pn || string(o.Payload) != "payload" {
					t.Fatalf("packet %d of generation %d opened as %+v", pn, gen, o)
				}
				next = max(next, pn+1)
			}
			open(0, 10, 0, nil)
			late := sender.Seal(nil, 0, []byte{9}, 11, 4, []byte("payload"))
			open(1, 20, 1, nil)     // the peer may seal with the next generation, and the receiver follows
			open(0, 15, 1, nil)     // sent before the update, came late
			open(0, 25, 1, ErrAuth) // old keys above the update: RFC 9001, section 6.4
			open(1, 26, 1, nil)
			open(0, 22, 1, ErrAuth)      // a later packet does not move the bound up
			open(1, 17, 1, nil)          // the update's first packet was not the first to come
			open(0, 18, 1, ErrAuth)      // so this one is above it too
			sender.Update()              // 1
			open(2, 30, 2, nil)          // phase 0 again
			open(1, 29, 2, nil)          //
			open(2, 1<<32+5, 2, ErrAuth) // beyond what 4 bytes tell at this next: decoded as another number
			sender.Update()              // 2
			sender.Update()              // 3
			open(3, 40, 3, nil)
			var o Opened
			if err := receiver.Open(nil, late, 1, next, &o); !errors.Is(err, ErrAuth) || receiver.Generation() != 3 {
				t.Errorf("generation 0 at generation 3: %v, receiver at %d", err, receiver.Generation())
			}
			// An update by this end: what the peer still sends is of the generation before.
			receiver.Update()
			open(3, 50, 4, nil)
			open(4, 60, 4, nil)
			open(3, 55, 4, nil)
			open(3, 61, 4, ErrAuth)
		})
	}
}

func TestSealRefuses(t *testing.T) {
	for _, s := range allSuites {
		k, _ := testKeys(t, s)
		for _, g := range []uint64{0, 1, 2, 3, 1 << 63, ^uint64(0)} {
			for range 3 {
				got := k.Seal([]byte{7}, g, nil, 5, 4, nil)
				have := s == SuiteNull || g+1-k.Generation() <= 2 && g != ^uint64(0)
				if (len(got) > 1) != have || got[0] != 7 {
					t.Errorf("%v: generation %d at %d gave %x", s, g, k.Generation(), got)
				}
			}
			if g == 1 {
				k.Update()
			}
		}
		for _, got := range [][]byte{
			k.Seal(nil, 1, nil, 5, 0, []byte("payload")),
			k.Seal(nil, 1, nil, 5, 5, []byte("payload")),
			k.Seal(nil, 1, make([]byte, MaxCIDLen+1), 5, 4, []byte("payload")),
			k.Seal(nil, 1, nil, 5, 1, []byte("ab")),
		} {
			if len(got) != 0 {
				t.Errorf("%v: sealed %x", s, got)
			}
		}
	}
}

// Open and Seal allocate nothing, in the current generation and in the ones next to it.
func TestProtectAllocs(t *testing.T) {
	for _, s := range allSuites {
		sender, receiver := testKeys(t, s)
		payload, cid := make([]byte, 1200), make([]byte, 8)
		pkt, dst := make([]byte, 0, 1500), make([]byte, 0, 1500)
		pn := uint64(0)
		var o Opened
		if n := testing.AllocsPerRun(200, func() {
			pkt = sender.Seal(pkt[:0], 0, cid, pn, 4, payload)
			if err := receiver.Open(dst, pkt, len(cid), pn, &o); err != nil {
				t.Fatal(err)
			}
			pkt[50] ^= 1
			if err := receiver.Open(dst, pkt, len(cid), pn, &o); s != SuiteNull && !errors.Is(err, ErrAuth) {
				t.Fatal(err)
			}
			pn++
		}); n != 0 {
			t.Errorf("%v: %v allocations, want 0", s, n)
		}
	}
}

// The block counter of ChaCha20's header protection is the peer's to choose; its highest value must not panic.
func TestChaChaCounterAtEnd(t *testing.T) {
	_, k := testKeys(t, SuiteChaCha20Poly1305)
	var o Opened
	if err := k.Open(nil, append([]byte{0x40, 0, 0, 0, 0}, bytes.Repeat([]byte{0xff}, 40)...), 0, 0, &o); !errors.Is(err, ErrAuth) {
		t.Error(err)
	}
}

func FuzzKeysOpen(f *testing.F) {
	for i, s := range allSuites {
		k, _ := testKeys(f, s)
		f.Add(byte(i), byte(4), uint64(0), k.Seal(nil, 0, []byte{1, 2, 3, 4}, 3, 2, []byte("payload")))
		f.Add(byte(i), byte(0), uint64(1<<32), k.Seal(nil, 1, nil, 1<<32, 4, []byte("payload")))
	}
	f.Add(byte(0), byte(0), uint64(1<<32), append([]byte("a0000"), make([]byte, TagLen)...)) // found by the fuzzer: the spin bit
	f.Fuzz(func(t *testing.T, suite, cidLen byte, next uint64, pkt []byte) {
		_, k := testKeys(t, allSuites[int(suite)%len(allSuites)])
		before := bytes.Clone(pkt)
		var o Opened
		err := k.Open(nil, pkt, int(cidLen), next, &o)
		if !bytes.Equal(pkt, before) {
			t.Fatal("Open changed the packet")
		}
		if err != nil {
			return
		}
		if o.Header != 1+int(cidLen)+o.PNLen || len(o.Payload) != len(pkt)-o.Header-TagLen || o.PNLen < 1 || o.PNLen > 4 {
			t.Fatalf("%+v of %d bytes", o, len(pkt))
		}
		// What opens is what Seal makes of it, but for the spin bit, which Seal leaves 0.
		if pkt[0]&spinBit == 0 && o.PacketNumber <= MaxVarint && len(o.Payload)+o.PNLen >= 4 {
			if again := k.Seal(nil, o.Generation, pkt[1:1+cidLen], o.PacketNumber, o.PNLen, o.Payload); !bytes.Equal(again, pkt) {
				t.Fatalf("sealed again %x, was %x", again, pkt)
			}
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, s := range allSuites {
		b.Run(s.String(), func(b *testing.B) {
			k, _ := testKeys(b, s)
			payload, cid, dst := make([]byte, 1200), make([]byte, 8), make([]byte, 0, 1500)
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			for i := range b.N {
				dst = k.Seal(dst[:0], 0, cid, uint64(i), 4, payload)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, s := range allSuites {
		b.Run(s.String(), func(b *testing.B) {
			sender, k := testKeys(b, s)
			pkt := sender.Seal(nil, 0, make([]byte, 8), 1000, 4, make([]byte, 1200))
			dst := make([]byte, 0, 1500)
			var o Opened
			b.ReportAllocs()
			b.SetBytes(1200)
			for range b.N {
				if err := k.Open(dst, pkt, 8, 1000, &o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
