package quicadapt_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/quicadapt"
)

// marks notes what the connection IDs of short header packets to the server are like.
type marks struct {
	mu     sync.Mutex
	values map[byte]int             // since the last take
	ids    map[string]map[byte]bool // last bytes by what precedes them
}

func (m *marks) tap(p simnet.Packet) {
	if p.To.(interface{ String() string }).String() != "10.0.0.1:4433" || len(p.Data) <= datapath.CIDLen || p.Data[0]&0x80 != 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	last := p.Data[datapath.CIDLen]
	m.values[last]++
	id := string(p.Data[1:datapath.CIDLen])
	if m.ids[id] == nil {
		m.ids[id] = make(map[byte]bool)
	}
	m.ids[id][last] = true
}

func (m *marks) take() map[byte]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.values
	m.values = make(map[byte]int)
	return v
}

// TestPriorityCID sends streams of every priority, again and again until quic-go has changed the connection ID: at every
// moment each priority is told, packets without media tell 0, and quic-go takes every packet for one of its connection.
func TestPriorityCID(t *testing.T) {
	for _, null := range []bool{false, true} {
		t.Run(fmt.Sprintf("null %v", null), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &marks{values: make(map[byte]int), ids: make(map[string]map[byte]bool)}
				server, client := priorityPair(t, m, true, null)
				const streams = 11_000
				go func() {
					for {
						s, err := server.AcceptUniStream(t.Context())
						if err != nil {
							return
						}
						if b, err := io.ReadAll(s); err != nil || string(b) != "media" {
							t.Errorf("got %q, %v", b, err)
						}
					}
				}()
				m.take()
				for i := range streams {
					want := byte(i)
					if i%1000 < 256 {
						if err := client.SendDatagramPriority([]byte("a datagram"), want); err != nil {
							t.Fatal(err)
						}
					} else {
						s, err := client.OpenUniStreamSync(t.Context())
						if err != nil {
							t.Fatal(err)
						}
						client.SetStreamPriority(s.StreamID(), want)
						s.Write([]byte("media"))
						s.Close()
					}
					time.Sleep(60 * time.Millisecond)
					got := m.take()
					if got[want] == 0 {
						t.Fatalf("stream %d: no packet has priority %d: %v", i, want, got)
					}
					delete(got, want)
					delete(got, 0)
					if len(got) > 0 {
						t.Fatalf("stream %d: packets of other priorities than %d: %v", i, want, got)
					}
				}
				whole := 0
				for _, values := range m.ids {
					if len(values) == 256 {
						whole++
					}
				}
				if whole < 2 {
					t.Errorf("%d connection IDs told every priority, want two or more of %d", whole, len(m.ids))
				}
				if s := server.Stats(); s.Unopened > 0 {
					t.Errorf("server: %+v", s)
				}
			})
		})
	}
}

// TestPriorityCIDOneSided: a peer without the option gets and sends connection IDs as they are.
func TestPriorityCIDOneSided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &marks{values: make(map[byte]int), ids: make(map[string]map[byte]bool)}
		server, client := priorityPair(t, m, false, false)
		for i := range 50 {
			s, err := client.OpenUniStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			client.SetStreamPriority(s.StreamID(), 200)
			if _, err := s.Write(pattern(5000, uint64(i))); err != nil {
				t.Fatal(err)
			}
			s.Close()
		}
		if err := echoOnce(within(t), server, client, pattern(100_000, 1)); err != nil {
			t.Fatal(err)
		}
		for v := range m.take() {
			if v != 0 {
				t.Errorf("a packet tells priority %d", v)
			}
		}
	})
}

func priorityPair(t *testing.T, m *marks, both, null bool) (server, client *quicadapt.Conn) {
	t.Helper()
	sockets := newNetwork(t, 1, 0, m.tap, "10.0.0.1", "10.0.0.2")
	serverTLS, clientTLS := certificate(t)
	conf := config()
	conf.MaxIncomingUniStreams = 1000
	b, err := quicadapt.New(sockets[0], quicadapt.Config{PriorityCID: true, Null: null})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	ln, err := b.Listen(serverTLS, conf)
	if err != nil {
		t.Fatal(err)
	}
	d, err := quicadapt.New(sockets[1], quicadapt.Config{PriorityCID: both, Null: null})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	accepted := make(chan *quicadapt.Conn, 1)
	go func() {
		c, err := ln.Accept(ctx)
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	if client, err = d.Dial(ctx, sockets[0].LocalAddr(), clientTLS, conf); err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	time.Sleep(time.Second)
	return server, client
}
