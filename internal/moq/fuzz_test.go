package moq_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// Steps of a script of FuzzSession. Each is followed by a length and as many bytes, or less at the end of the script.
const (
	stepMessage = iota // a message: its type, then its payload
	stepControl        // bytes of the control stream
	stepFetch          // bytes of a stream that begins as that of the session's FETCH
	stepStream         // bytes of a stream
	stepWait           // so many milliseconds pass
	stepKinds
)

// FuzzSession plays what a peer may write to a session: control messages, and streams that answer a FETCH. The session has
// asked for a track and for objects by then, with request IDs 1 and 3, and answers everything that it is asked for. Whatever comes, it ends
// when its connection does, and a FETCH has no more bytes than came.
func FuzzSession(f *testing.F) {
	message := func(script []byte, msgType byte, payload ...byte) []byte {
		return append(append(script, stepMessage, byte(len(payload)+1), msgType), payload...)
	}
	stream := func(script []byte, kind byte, b ...byte) []byte {
		return append(append(script, kind, byte(len(b))), b...)
	}
	for _, draft := range []byte{0, 1} {
		f.Add(message(message([]byte{draft}, wire.MsgSubscribeOK, 1, 9, 0, 1, 0, 0), wire.MsgPublishDone, 1, 2, 0, 0))
		f.Add(stream(message([]byte{draft}, wire.MsgFetchOK, 3, 1, 0, 9, 9, 0, 0), stepFetch, 7, 1, 2, 9, 0, 3, 'a', 'b', 'c', 7, 1, 3, 9, 0, 1, 'd'))
		f.Add(stream(message([]byte{draft}, wire.MsgFetchOK, 3, 0, 9, 9, 0), stepFetch, 0x1f, 7, 1, 2, 9, 0, 3, 'a', 'b', 'c', 0, 1, 'd'))
		f.Add(message(message([]byte{draft}, wire.MsgFetchError, 3, 4, 0), wire.MsgRequestError, 1, 4, 0, 0))
		f.Add(message([]byte{draft}, wire.MsgSubscribe, 0, 1, 1, 'n', 1, 't', 1, 0, 1, 2, 0))
		f.Add(message(message([]byte{draft}, wire.MsgFetch, 2, 1, 1, 1, 1, 1, 'n', 1, 't', 0, 0, 9, 9, 0), wire.MsgFetchCancel, 2))
		f.Add(message(message([]byte{draft}, wire.MsgPublishNamespace, 0, 1, 1, 'n', 0), wire.MsgPublishNamespaceDone, 1, 1, 'n'))
		f.Add(stream(stream([]byte{draft}, stepControl, 0x10, 0, 1, 0), stepStream, 5, 0x40))
		f.Add(stream([]byte{draft, stepWait, 200}, stepFetch))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) == 0 || len(script) > 1<<10 {
			return
		}
		draft := wire.Draft14
		if script[0]&1 > 0 {
			draft = wire.Draft16
		}
		pair(t, draft, func(t *testing.T, ctx context.Context, client, server *quic.Conn) {
			playSession(t, ctx, draft, client, server, script[1:])
		})
	})
}

func playSession(t *testing.T, ctx context.Context, draft wire.Draft, client, server *quic.Conn, script []byte) {
	ctl, err := client.OpenStream()
	must(t, err)
	go func() { _, _ = io.Copy(io.Discard, ctl) }()
	setup := []byte{2, 1, 0, 1, 0x40, 0x64} // PATH "" and MAX_REQUEST_ID 100
	if draft == wire.Draft14 {
		setup = []byte{1, 0xc0, 0, 0, 0, 0xff, 0, 0, 14, 2, 1, 0, 2, 0x40, 0x64}
	}
	b, err := wire.AppendControl(nil, wire.MsgClientSetup, setup)
	must(t, err)
	_, err = ctl.Write(b)
	must(t, err)
	s, err := moq.Accept(ctx, server, moq.Handlers{
		Announce: func([]string) error { return nil }, Unannounce: func([]string) {},
		Subscribe: func(r *moq.Request) {
			if _, err := r.Accept(&moq.Location{Group: 8, Object: 1}); err == nil {
				_ = r.Done(moq.DoneTrackEnded, 0, "")
			}
		},
		Update: func(r *moq.Request) { _ = r.Options() },
		Fetch: func(r *moq.FetchRequest) {
			if r.Accept(wire.OrderAscending, r.End, false, nil) == nil {
				if out, _, err := r.Open(); err == nil {
					_ = out.Close()
				}
			}
		},
	})
	must(t, err)
	go deliver(ctx, s)
	go func() {
		if sub, err := s.Subscribe(ctx, []string{"n"}, "t", moq.SubscribeOptions{}); err == nil {
			_ = sub.Unsubscribe()
		}
	}()
	synctest.Wait()
	sent, got := 0, uint64(0)
	read := make(chan struct{})
	go func() {
		defer close(read)
		fetch, err := s.Fetch(ctx, []string{"n"}, "t", moq.FetchOptions{End: moq.Location{Group: 9}})
		if err != nil {
			return
		}
		defer func() { _ = fetch.Close() }()
		for buf := make([]byte, 100); ; {
			if _, err := fetch.Next(ctx); err != nil {
				return
			}
			for err = error(nil); err == nil; {
				var n int
				n, err = fetch.Read(buf)
				got += uint64(n)
			}
			if !errors.Is(err, io.EOF) {
				return
			}
		}
	}()
	synctest.Wait()
	for len(script) > 0 {
		kind := script[0] % stepKinds
		var data []byte
		if script = script[1:]; len(script) > 0 && kind == stepWait {
			time.Sleep(time.Duration(script[0]) * time.Millisecond)
			script = script[1:]
			continue
		} else if len(script) > 0 {
			n := min(int(script[0]), len(script)-1)
			data, script = script[1:1+n], script[1+n:]
		}
		switch kind {
		case stepMessage:
			if len(data) > 0 {
				m, err := wire.AppendControl(nil, uint64(data[0]), data[1:])
				must(t, err)
				_, _ = ctl.Write(m)
			}
		case stepControl:
			_, _ = ctl.Write(data)
		case stepFetch:
			data = append([]byte{0x05, 3}, data...)
			fallthrough
		case stepStream:
			if out, err := client.OpenUniStream(); err == nil {
				sent += len(data)
				_, _ = out.Write(data)
				_ = out.Close()
			}
		}
		synctest.Wait()
	}
	settle()
	if err := s.Close(moq.CodeNoError, ""); err != nil && s.Context().Err() == nil {
		t.Error(err)
	}
	settle()
	select {
	case <-read:
	default:
		t.Error("FETCH goes on after the session")
	}
	if got > uint64(sent) {
		t.Errorf("FETCH has %d bytes of %d", got, sent)
	}
}
