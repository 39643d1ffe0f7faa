package quicadapt_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/quicadapt"
)

// TestRecordsCannotBeRead: when Drain fails the fast path ends. A stream that goes on is finished by userspace, one that the datapath has opened
// unseen is reset with the size that the subscriber knows, reserved streams are the peer's credit again, and the connection goes on.
func TestRecordsCannotBeRead(t *testing.T) {
	for _, closed := range []bool{false, true} { // the datapath is not asked for anything any more, or does not answer
		synctest.Test(t, func(t *testing.T) {
			ctx := within(t)
			conf := config()
			conf.MaxIncomingUniStreams = 6
			p := newPair(t, ctx, false, 0, conf)
			data := pattern(4000, 1)
			var seen, unseen, late uint64
			forward := func(source uint64, id *uint64, from, to int, fin bool) error {
				return p.dp.forward(p.id, 0, source, id, data[from:to], uint64(from), fin)
			}
			if err := forward(2, &seen, 0, 1000, false); err != nil {
				t.Fatal(err)
			}
			p.dp.Drain(func(r *datapath.Record) { quicadapt.OnRecord(p.server, r) })
			fast := p.server.FastStream(0, 2)
			fast.Write(data[:1000])
			synctest.Wait() // whoever reads records is done, and no time passes until they cannot be read
			if err := errors.Join(forward(2, &seen, 1000, 2000, false), forward(6, &unseen, 0, 1000, false)); err != nil {
				t.Fatal(err)
			}
			p.dp.mu.Lock()
			client := p.dp.clients[p.id]
			p.dp.mu.Unlock()
			p.dp.broken.Store(true)
			time.Sleep(100 * time.Millisecond)
			p.dp.mu.Lock()
			if n := len(p.dp.clients); n != 0 {
				t.Errorf("the datapath has %d clients", n)
			}
			if closed { // it did not take the removal
				p.dp.clients[p.id] = client
			}
			p.dp.mu.Unlock()
			if closed {
				if client.space.Budget(client.space.Now(), 1200) == datapath.Forwarded {
					t.Error("the datapath may send")
				}
				if err := forward(6, &unseen, 1000, 2000, false); err == nil {
					t.Error("the datapath could send on a stream that is reset")
				}
				if err := forward(10, &late, 0, 100, false); err == nil {
					t.Error("the datapath could send on a new stream")
				}
			}
			if p.server.FastStream(0, 6) != nil || p.server.Settle(6, true) == nil {
				t.Error("the stream that nobody has seen is taken for a fast one")
			}
			if _, err := p.server.Client(); !errors.Is(err, datapath.ErrClosed) {
				t.Errorf("joining: %v", err)
			}
			fast.Write(data[1000:])
			fast.Close()
			for range 2 {
				s, err := p.client.AcceptUniStream(ctx)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(s)
				var reset *quic.StreamError
				switch uint64(s.StreamID()) {
				case seen:
					if err != nil || !bytes.Equal(b, data) {
						t.Errorf("stream in progress: %d bytes, %v", len(b), err)
					}
				case unseen:
					if !errors.As(err, &reset) || !reset.Remote {
						t.Errorf("unseen stream: %d bytes, %v", len(b), err)
					}
				}
			}
			go func() {
				for {
					s, err := p.client.AcceptUniStream(ctx)
					if err != nil {
						return
					}
					go io.Copy(io.Discard, s)
				}
			}()
			time.Sleep(time.Second)
			for i := range 6 { // as many as the peer allows: none is reserved
				s, err := p.server.OpenUniStream()
				if err != nil {
					t.Fatalf("stream %d: %v", i, err)
				}
				s.Write(data)
				defer s.Close()
			}
			if err := echoOnce(ctx, p.server, p.client, pattern(100_000, 2)); err != nil {
				t.Error(err) // the final sizes were right
			}
			p.client.CloseWithError(0, "")
			time.Sleep(time.Second)
		})
	}
}
