package moq_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Eyevinn/moqtransport"
	"github.com/Eyevinn/moqtransport/quicmoq"
	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"
)

var certificate = sync.OnceValue(func() tls.Certificate {
	c, err := endpoint.SelfSigned(time.Now())
	if err != nil {
		panic(err)
	}
	return c
})

// pair runs a test in virtual time with the two ends of a QUIC connection over a network with a delay of 5 ms.
func pair(t *testing.T, d wire.Draft, test func(t *testing.T, ctx context.Context, client, server *quic.Conn)) {
	t.Helper()
	cert := certificate()
	synctest.Test(t, func(t *testing.T) {
		var router simnet.PerfectRouter
		host := func(n byte) (*quic.Transport, *net.UDPAddr, func()) {
			addr := &net.UDPAddr{IP: net.IPv4(1, 0, 0, n), Port: 443}
			link := &simnet.SimulatedLink{Latency: 5 * time.Millisecond, UploadPacket: &router}
			pc := simnet.NewBlockingSimConn(addr, link)
			router.AddNode(addr, link)
			link.Start()
			tr := &quic.Transport{Conn: pc}
			return tr, addr, func() { _ = tr.Close(); _ = pc.Close(); _ = link.Close() }
		}
		here, _, closeHere := host(1)
		there, addr, closeThere := host(2)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer func() {
			cancel()
			closeHere()
			closeThere()
			time.Sleep(time.Minute) // virtual: timers run out
		}()
		conf := &quic.Config{EnableDatagrams: true, MaxIncomingUniStreams: 100}
		ln, err := there.Listen(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{d.ALPN()}}, conf)
		must(t, err)
		client, err := here.Dial(ctx, addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{d.ALPN()}}, conf)
		must(t, err)
		server, err := ln.Accept(ctx)
		must(t, err)
		test(t, ctx, client, server)
		_ = client.CloseWithError(0, "")
		_ = server.CloseWithError(0, "")
	})
}

func eachDraft(t *testing.T, test func(t *testing.T, ctx context.Context, client, server *quic.Conn)) {
	for _, d := range []wire.Draft{wire.Draft14, wire.Draft16} {
		t.Run(d.String(), func(t *testing.T) { pair(t, d, test) })
	}
}

// sessions starts a session at each end.
func sessions(t *testing.T, ctx context.Context, client, server *quic.Conn, ch, sh moq.Handlers) (c, s *moq.Session) {
	t.Helper()
	done := make(chan error)
	go func() {
		var err error
		s, err = moq.Accept(ctx, server, sh)
		done <- err
	}()
	c, err := moq.Connect(ctx, client, ch)
	must(t, err)
	must(t, <-done)
	return c, s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func settle() { time.Sleep(100 * time.Millisecond); synctest.Wait() }

// TestSubscribe has a subscription from its request to PUBLISH_DONE, in both directions.
func TestSubscribe(t *testing.T) {
	eachDraft(t, func(t *testing.T, ctx context.Context, client, server *quic.Conn) {
		requests := make(chan *moq.Request, 1)
		ask := make(chan struct{})
		h := moq.Handlers{Subscribe: func(r *moq.Request) { requests <- r; <-ask }}
		c, s := sessions(t, ctx, client, server, h, h)
		for _, ends := range [][2]*moq.Session{{c, s}, {s, c}} {
			var sub *moq.Subscription
			done := make(chan error)
			o := moq.SubscribeOptions{Priority: 3, PrioritySet: true, Filter: moq.FilterAbsoluteRange, Start: moq.Location{Group: 7, Object: 2}, EndGroup: 9}
			go func() {
				var err error
				sub, err = ends[0].Subscribe(ctx, []string{"a", "b"}, "t", o)
				done <- err
			}()
			r := <-requests
			if strings.Join(r.Namespace, "/") != "a/b" || r.Track != "t" || r.Options() != o {
				t.Errorf("request: %v %q %+v", r.Namespace, r.Track, r.Options())
			}
			if c.Draft() == wire.Draft16 {
				r.TrackExtensions = wire.AppendExtensions(nil, []wire.ExtensionHeader{{Type: wire.ExtDefaultPublisherPriority, Value: 44}}, wire.Draft16)
			}
			alias, err := r.Accept(&moq.Location{Group: 8, Object: 1})
			must(t, err)
			must(t, <-done)
			priority := map[wire.Draft]uint8{wire.Draft14: 128, wire.Draft16: 44}[c.Draft()]
			if sub.Alias != alias || sub.Largest == nil || *sub.Largest != (moq.Location{Group: 8, Object: 1}) || sub.DefaultPriority != priority {
				t.Errorf("subscription: alias %d for %d, largest %v, priority %d", sub.Alias, alias, sub.Largest, sub.DefaultPriority)
			}
			if _, err := r.Accept(nil); !errors.Is(err, moq.ErrAnswered) {
				t.Errorf("second answer: %v", err)
			}
			must(t, r.Done(moq.DoneTrackEnded, 70_000, "the end"))
			<-sub.Done()
			if code, streams, reason := sub.Result(); code != moq.DoneTrackEnded || streams != 70_000 || reason != "the end" {
				t.Errorf("result: %d, %d, %q", code, streams, reason)
			}
			must(t, sub.Unsubscribe()) // it has ended: nothing is sent
		}
		close(ask)
		settle()
		must(t, context.Cause(client.Context()))
	})
}

// TestHandlersDoNotBlock answers subscriptions in another order than that of the requests, and lets the peer unsubscribe
// from and update some before they are answered.
func TestHandlersDoNotBlock(t *testing.T) {
	eachDraft(t, func(t *testing.T, ctx context.Context, client, server *quic.Conn) {
		requests := make(chan *moq.Request, 10)
		c, _ := sessions(t, ctx, client, server, moq.Handlers{}, moq.Handlers{
			Subscribe: func(r *moq.Request) { requests <- r; <-r.Unsubscribed() },
			Announce:  func([]string) error { return nil },
		})
		type result struct {
			sub *moq.Subscription
			err error
		}
		results := make([]chan result, 4)
		held := make([]*moq.Request, 4)
		cancels := make([]context.CancelFunc, 4)
		for i := range results {
			results[i] = make(chan result, 1)
			var sctx context.Context
			sctx, cancels[i] = context.WithCancel(ctx)
			go func() {
				sub, err := c.Subscribe(sctx, []string{"n"}, fmt.Sprint(i), moq.SubscribeOptions{})
				results[i] <- result{sub, err}
			}()
			held[i] = <-requests
		}
		must(t, c.Announce(ctx, []string{"n"})) // the control stream is not blocked
		for _, i := range []int{2, 0} {
			alias, err := held[i].Accept(nil)
			must(t, err)
			if r := <-results[i]; r.err != nil || r.sub.Alias != alias {
				t.Errorf("%d: %+v", i, r)
			}
		}
		must(t, held[1].Reject(moq.SubscribeTrackDoesNotExist, "no such track"))
		var refused *moq.SubscribeError
		if r := <-results[1]; !errors.As(r.err, &refused) || refused.Code != moq.SubscribeTrackDoesNotExist || refused.Reason != "no such track" {
			t.Errorf("refused: %v", r.err)
		}
		cancels[3]() // gives up; when the answer comes, it is unsubscribed from
		if r := <-results[3]; !errors.Is(r.err, context.Canceled) {
			t.Error(r.err)
		}
		_, err := held[3].Accept(nil)
		must(t, err)
		<-held[3].Unsubscribed()
		must(t, held[3].Done(moq.DoneSubscriptionEnded, 0, ""))
		settle()
		must(t, context.Cause(client.Context()))
		for _, cancel := range cancels {
			cancel()
		}
	})
}

// TestCrossing has messages that cross each other: the session survives.
func TestCrossing(t *testing.T) {
	eachDraft(t, func(t *testing.T, ctx context.Context, client, server *quic.Conn) {
		requests := make(chan *moq.Request, 10)
		c, _ := sessions(t, ctx, client, server, moq.Handlers{}, moq.Handlers{Subscribe: func(r *moq.Request) {
			_, err := r.Accept(nil)
			must(t, err)
			requests <- r
		}})
		sub, err := c.Subscribe(ctx, []string{"n"}, "t", moq.SubscribeOptions{})
		must(t, err)
		r := <-requests
		must(t, r.Done(moq.DoneTrackEnded, 0, ""))
		must(t, sub.Unsubscribe()) // crosses PUBLISH_DONE
		settle()
		must(t, context.Cause(client.Context()))
		must(t, context.Cause(server.Context()))
	})
}

// TestStockPeer has the unmodified library at the other end, whose Close after the end of a subscription is an UNSUBSCRIBE of
// nothing.
func TestStockPeer(t *testing.T) {
	eachDraft(t, func(t *testing.T, ctx context.Context, client, server *quic.Conn) {
		requests := make(chan *moq.Request, 10)
		namespaces := make(chan string, 10)
		go func() {
			_, err := moq.Accept(ctx, server, moq.Handlers{
				Announce: func(ns []string) error {
					if ns[0] == "secret" {
						return errors.New("not here")
					}
					namespaces <- "+" + ns[0]
					return nil
				},
				Unannounce: func(ns []string) { namespaces <- "-" + ns[0] },
				Subscribe: func(r *moq.Request) {
					_, err := r.Accept(&moq.Location{Group: 4, Object: 5})
					if err != nil {
						t.Error(err)
					}
					requests <- r
				},
				Update: func(r *moq.Request) { requests <- r },
			})
			if err != nil {
				t.Error(err)
			}
		}()
		lib := &moqtransport.Session{InitialMaxRequestID: 100, Handler: moqtransport.HandlerFunc(func(moqtransport.ResponseWriter, *moqtransport.Message) {})}
		must(t, lib.Run(quicmoq.NewClient(client)))
		for range 60 { // more than the library would allow
			must(t, lib.Announce(ctx, []string{"n"}))
			must(t, lib.Unannounce(ctx, []string{"n"}))
			if a, b := <-namespaces, <-namespaces; a != "+n" || b != "-n" {
				t.Fatal(a, b)
			}
		}
		if err := lib.Announce(ctx, []string{"secret"}); err == nil || !strings.Contains(err.Error(), "not here") {
			t.Error(err)
		}
		for range 3 {
			track, err := lib.Subscribe(ctx, []string{"n"}, "t")
			must(t, err)
			if l, ok := track.LargestLocation(); !ok || l.Group != 4 || l.Object != 5 {
				t.Error("largest location is lost")
			}
			r := <-requests
			must(t, r.Done(moq.DoneTrackEnded, 0, "end"))
			_, err = track.ReadObject(ctx)
			var done *moqtransport.ErrSubscribeDone
			if !errors.As(err, &done) {
				t.Error(err)
			}
			must(t, track.Close())
		}
		if _, err := lib.RequestTrackStatus(contextSoon(t, ctx), []string{"n"}, "t"); err == nil {
			t.Error("TRACK_STATUS was answered")
		}
		settle()
		if lib := context.Cause(server.Context()); lib != nil && client.ConnectionState().TLS.NegotiatedProtocol == wire.ALPNDraft14 {
			t.Error(lib)
		}
		_ = lib.Close()
	})
}

func contextSoon(t *testing.T, ctx context.Context) context.Context {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestHostilePeer sends what the library would panic on, or what it would answer by ending its side without a word: the
// connection is closed with a code.
func TestHostilePeer(t *testing.T) {
	// One version, draft 14; two parameters: PATH "" and MAX_REQUEST_ID 100.
	setup := []byte{1, 0xc0, 0, 0, 0, 0xff, 0, 0, 14, 2, 1, 0, 2, 0x40, 0x64}
	message := func(msgType uint64, payload ...byte) []byte {
		b, _ := wire.AppendControl(nil, msgType, payload)
		return b
	}
	for _, c := range []struct {
		name  string
		bytes []byte
		early bool // instead of SETUP
		code  quic.ApplicationErrorCode
	}{
		{name: "no setup", bytes: message(wire.MsgSubscribe, 0, 1, 1, 'n', 1, 't'), early: true, code: moq.CodeProtocolViolation},
		{name: "cut off SUBSCRIBE", bytes: message(wire.MsgSubscribe, 0, 1, 200), code: moq.CodeProtocolViolation},
		{name: "huge namespace", bytes: message(wire.MsgSubscribe, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), code: moq.CodeProtocolViolation},
		{name: "huge announced namespace", bytes: message(wire.MsgPublishNamespace, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), code: moq.CodeProtocolViolation},
		{name: "cut off parameter", bytes: message(wire.MsgPublishNamespace, 0, 1, 1, 'n', 1, 3, 0x7f, 0xff), code: moq.CodeProtocolViolation},
		{name: "empty message", bytes: message(wire.MsgPublishNamespace), code: moq.CodeProtocolViolation},
		{name: "SUBSCRIBE_OK of nothing", bytes: message(wire.MsgSubscribeOK, 1, 0, 0, 1, 0, 0), code: moq.CodeInvalidRequestID},
		{name: "UNSUBSCRIBE of nothing", bytes: message(wire.MsgUnsubscribe, 8), code: moq.CodeInvalidRequestID},
		{name: "second SETUP", bytes: message(wire.MsgClientSetup, setup...), code: moq.CodeProtocolViolation},
		{name: "unknown type", bytes: message(0x3fff), code: moq.CodeProtocolViolation},
	} {
		t.Run(c.name, func(t *testing.T) {
			pair(t, wire.Draft14, func(t *testing.T, ctx context.Context, client, server *quic.Conn) {
				failed := make(chan error, 1)
				go func() {
					_, err := moq.Accept(ctx, server, moq.Handlers{Subscribe: func(r *moq.Request) {}})
					failed <- err
				}()
				ctl, err := client.OpenStream()
				must(t, err)
				if !c.early {
					_, err = ctl.Write(message(wire.MsgClientSetup, setup...))
					must(t, err)
					settle()
				}
				_, err = ctl.Write(c.bytes)
				must(t, err)
				settle()
				var aerr *quic.ApplicationError
				if err := context.Cause(client.Context()); !errors.As(err, &aerr) || aerr.ErrorCode != c.code {
					t.Errorf("session was closed with %v, want code %d", err, c.code)
				}
				if err := <-failed; (err != nil) != c.early {
					t.Error(err)
				}
			})
		})
	}
}

// TestRefusals sends requests that are not served: they are answered and the session goes on.
func TestRefusals(t *testing.T) {
	pair(t, wire.Draft14, func(t *testing.T, ctx context.Context, client, server *quic.Conn) {
		go func() {
			if _, err := moq.Accept(ctx, server, moq.Handlers{}); err != nil {
				t.Error(err)
			}
		}()
		ctl, err := client.OpenStream()
		must(t, err)
		setup, _ := wire.AppendControl(nil, wire.MsgClientSetup, []byte{1, 0xc0, 0, 0, 0, 0xff, 0, 0, 14, 2, 1, 0, 2, 0x40, 0x64})
		_, err = ctl.Write(setup)
		must(t, err)
		for i, msgType := range []uint64{wire.MsgFetch, wire.MsgTrackStatus, wire.MsgSubscribeNamespace, wire.MsgPublish} {
			m, _ := wire.AppendControl(nil, msgType, []byte{byte(2 * i), 1, 2, 3})
			_, err = ctl.Write(m)
			must(t, err)
		}
		var got []uint64
		scan := wire.ControlScanner{Message: func(msgType uint64, _ []byte) error {
			if msgType != wire.MsgMaxRequestID {
				got = append(got, msgType)
			}
			return nil
		}}
		buf := make([]byte, 1000)
		for len(got) < 5 {
			n, err := ctl.Read(buf)
			must(t, err)
			must(t, scan.Write(buf[:n]))
		}
		want := fmt.Sprint([]uint64{wire.MsgServerSetup, wire.MsgFetchError, wire.MsgTrackStatusError, wire.MsgSubscribeNamespaceErr, wire.MsgPublishError})
		if fmt.Sprint(got) != want {
			t.Errorf("answers %x", got)
		}
		must(t, context.Cause(client.Context()))
	})
}

// TestMemory measures what is left of a subscription at either end: nothing that counts.
func TestMemory(t *testing.T) {
	eachDraft(t, func(t *testing.T, ctx context.Context, client, server *quic.Conn) {
		c, _ := sessions(t, ctx, client, server, moq.Handlers{}, moq.Handlers{Subscribe: func(r *moq.Request) {
			_, _ = r.Accept(nil)
			<-r.Unsubscribed()
			_ = r.Done(moq.DoneSubscriptionEnded, 0, "")
		}})
		round := func() {
			sub, err := c.Subscribe(ctx, []string{"n"}, "t", moq.SubscribeOptions{})
			must(t, err)
			must(t, sub.Unsubscribe())
			<-sub.Done()
		}
		for range 100 {
			round()
		}
		settle()
		before := heap()
		const rounds = 1000
		for range rounds {
			round()
		}
		settle()
		grown := (int64(heap()) - int64(before)) / rounds
		t.Logf("%d bytes per subscription", grown)
		if grown > 200 {
			t.Errorf("heap grew by %d bytes per subscription", grown)
		}
	})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
