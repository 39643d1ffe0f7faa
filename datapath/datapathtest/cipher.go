package datapathtest

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// cipherCases are about real packet protection.
var cipherCases = []Case{
	sealed("aes-128-gcm", datapath.CipherAES128GCM, 32),
	sealed("aes-256-gcm", datapath.CipherAES256GCM, 48),
	sealed("chacha20-poly1305", datapath.CipherChaCha20Poly1305, 32),
}

// sealed returns the case of a cipher: opened, followed over a key update, sealed in the client's generation, and a
// forged packet changes nothing.
func sealed(name string, cipher datapath.Cipher, secretLen int) Case {
	return Case{Name: name, Run: func(r *Rig) {
		protection := func(secret byte) datapath.Protection {
			return datapath.Protection{Cipher: cipher, Version: wire.Version1, Secret: bytes.Repeat([]byte{secret}, secretLen)}
		}
		if !r.H.Supports(cipher) {
			r.refused(protection)
			return
		}
		keys := func(p datapath.Protection) *wire.Keys {
			k, err := wire.NewKeys(wire.Suite(p.Cipher), p.Version, p.Secret)
			r.must(err)
			return k
		}
		r.Upstream(func(u *datapath.Upstream) { u.Protection = protection(1) })
		r.Track(1, 5, 14)
		client := protection(2)
		client.Generation = 3
		r.Ready(r.AddClient(1, func(c *datapath.Client) { c.Protection = client }), 4)
		r.Learn(1)
		r.Subscribe(1, 1, 101)
		r.Pub.Keys = keys(protection(1))
		receiver := keys(protection(2))
		for range client.Generation {
			receiver.Update()
		}
		for i := range 3 {
			r.Pub.Phase = uint64(i)
			frame := r.Pub.Frame(uint64(i), Stream(uint64(4*i+2), 0, Subgroup(5, 9, 1, "x"), false))
			forged := bytes.Clone(frame)
			forged[len(forged)-20] ^= 1
			r.H.Publish(forged)
			r.H.Publish(frame)
			r.H.Publish(frame)
			got := r.H.Collect()
			if len(got) != 1 {
				r.Fatalf("%d packets came out in generation %d, want 1", len(got), i)
			}
			sent, err := ParseFrame(got[0])
			r.must(err)
			var o wire.Opened
			if err := receiver.Open(nil, sent.Payload, 8, uint64(i), &o); err != nil {
				r.Fatalf("generation %d: %v", i, err)
			}
			want := Stream(uint64(4*i+3), 0, Subgroup(101, 9, 1, "x"), false)
			if o.PacketNumber != uint64(i) || o.PNLen != 4 || o.Generation != 3 || !bytes.Equal(o.Payload, want) || !bytes.Equal(sent.Payload[1:9], r.DCID(1)) {
				r.Errorf("got %+v, want number %d of generation 3 with %x", o, i, want)
			}
			r.Pub.Keys.Update()
			i := strconv.Itoa(i)
			n := map[string]string{"0": "2→3", "1": "6→7", "2": "10→11"}[i]
			r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonAuth: 1, datapath.ReasonReplay: 1},
				[]string{"client 1: number " + i + " of " + i + ", forwarded, 40 bytes [" + n + " 0+7 slot " + i + " prio 1 opened]"})
		}
	}}
}

// refused is the case of a cipher that a datapath does not have: nothing is bound that it could not serve.
func (r *Rig) refused(protection func(secret byte) datapath.Protection) {
	r.Helper()
	u := datapath.Upstream{Remote: r.Pub.From.Addr, CIDs: [][]byte{CID(1)}, Streams: 2, Protection: protection(1)}
	if err := r.DP.SetUpstream(1, &u); !errors.Is(err, datapath.ErrCipher) {
		r.Errorf("an upstream with a cipher that is not there: %v", err)
	}
	c := datapath.Client{Local: r.Relay.Addr, Remote: r.subscriber(1).Addr, DCID: r.DCID(1), MaxSize: 1252, Protection: protection(2)}
	if space, err := r.DP.SetClient(1, &c); space != nil || !errors.Is(err, datapath.ErrCipher) {
		r.Errorf("a client with a cipher that is not there: %v", err)
	}
}
