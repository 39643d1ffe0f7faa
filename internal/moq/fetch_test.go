package moq_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// deliver hands the streams of a session to its fetches.
func deliver(ctx context.Context, s *moq.Session) {
	for {
		rs, err := s.AcceptDataStream(ctx)
		if err != nil {
			return
		}
		b := make([]byte, 0, 100)
		for {
			n, err := rs.Read(b[len(b) : len(b)+1])
			b = b[:len(b)+n]
			if derr := s.DeliverFetch(rs, b); !errors.Is(derr, wire.ErrShort) || err != nil {
				break
			}
		}
	}
}

// TestFetch has FETCH messages from the request to the last object: before and after a subscription has shown how the peer
// writes, standalone and joining, refused and cancelled.
func TestFetch(t *testing.T) {
	eachDraft(t, func(t *testing.T, ctx context.Context, client, server *quic.Conn) {
		requests := make(chan *moq.FetchRequest, 1)
		cancelled := make(chan error, 1)
		payload := make([]byte, 5000)
		objects := []wire.FetchObject{
			{Group: 7, Subgroup: 1, ID: 2, Priority: 9, PayloadLen: 5000},
			{Group: 7, Subgroup: 2, ID: 3, Priority: 9, Extensions: []byte{2, 9}, PayloadLen: 1},
			{Group: 8, ID: 0, Priority: 10},
		}
		h := moq.Handlers{
			Fetch: func(r *moq.FetchRequest) {
				requests <- r
				switch r.Track {
				case "none":
					_ = r.Reject(moq.FetchTrackDoesNotExist, "no such track")
					return
				case "hangs":
					<-r.Context().Done()
					cancelled <- r.Context().Err()
					return
				}
				stream, w, err := r.Open()
				must(t, err)
				for _, o := range objects {
					_, err := stream.Write(append(w.AppendHeader(nil, &o), payload[:o.PayloadLen]...))
					must(t, err)
				}
				must(t, stream.Close())
				must(t, r.Accept(wire.OrderAscending, moq.Location{Group: 8, Object: 1}, true, nil))
				if err := r.Reject(moq.FetchInternal, ""); !errors.Is(err, moq.ErrAnswered) {
					t.Errorf("second answer: %v", err)
				}
			},
			Subscribe: func(r *moq.Request) {
				largest := &moq.Location{Group: 8, Object: 5}
				if r.Track == "empty" {
					largest = nil
				}
				_, _ = r.Accept(largest)
			},
		}
		c, s := sessions(t, ctx, client, server, h, h)
		go deliver(ctx, c)
		go deliver(ctx, s)
		fetch := func(s *moq.Session, track string, o moq.FetchOptions) *moq.FetchRequest {
			t.Helper()
			f, err := s.Fetch(ctx, []string{"a", "b"}, track, o)
			must(t, err)
			r := <-requests
			if f.End != (moq.Location{Group: 8, Object: 1}) || !f.EndOfTrack {
				t.Errorf("answer: %+v", f)
			}
			for _, want := range objects {
				got, err := f.Next(ctx)
				must(t, err)
				if len(want.Extensions) == 0 {
					got.Extensions = nil
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("got %+v, want %+v", got, want)
				}
				if want.PayloadLen == 1 {
					if b, err := io.ReadAll(f); err != nil || len(b) != 1 {
						t.Errorf("payload: %d bytes, %v", len(b), err)
					}
				} // otherwise Next passes over it
			}
			if _, err := f.Next(ctx); !errors.Is(err, io.EOF) {
				t.Errorf("end: %v", err)
			}
			must(t, f.Close())
			settle()
			return r
		}
		for _, ends := range [][2]*moq.Session{{c, s}, {s, c}} {
			o := moq.FetchOptions{Priority: 4, PrioritySet: true, Order: wire.OrderDescending, Start: moq.Location{Group: 3, Object: 4}, End: moq.Location{Group: 8}}
			for range 2 {
				r := fetch(ends[0], "t", o)
				if r.Track != "t" || len(r.Namespace) != 2 || r.Start != o.Start || r.End != o.End || r.Priority != 4 || r.Order != wire.OrderDescending ||
					r.End.Limit() != (moq.Location{Group: 9}) {
					t.Errorf("request: %+v", r)
				}
				_, err := ends[0].Subscribe(ctx, []string{"a"}, "other", moq.SubscribeOptions{})
				must(t, err)
			}
			sub, err := ends[0].Subscribe(ctx, []string{"joined"}, "j", moq.SubscribeOptions{})
			must(t, err)
			for _, j := range []struct {
				o     moq.FetchOptions
				start uint64
			}{
				{moq.FetchOptions{Joining: sub, JoiningStart: 2}, 6},
				{moq.FetchOptions{Joining: sub, JoiningStart: 99}, 0},
				{moq.FetchOptions{Joining: sub, JoiningStart: 2, Absolute: true}, 2},
			} {
				r := fetch(ends[0], "", j.o)
				if r.Track != "j" || r.Namespace[0] != "joined" || r.Start != (moq.Location{Group: j.start}) || r.End != (moq.Location{Group: 8, Object: 6}) || r.Priority != 128 {
					t.Errorf("joining request: %+v", r)
				}
			}
			empty, err := ends[0].Subscribe(ctx, []string{"joined"}, "empty", moq.SubscribeOptions{})
			must(t, err)
			must(t, sub.Unsubscribe())
			settle()
			for _, e := range []struct {
				track string
				o     moq.FetchOptions
				code  uint64
			}{
				{"none", moq.FetchOptions{}, moq.FetchTrackDoesNotExist},
				{"", moq.FetchOptions{Joining: empty}, moq.FetchInvalidRange},
				{"", moq.FetchOptions{Joining: &moq.Subscription{ID: 4000}}, moq.FetchInvalidJoiningID},
			} {
				_, err := ends[0].Fetch(ctx, []string{"a"}, e.track, e.o)
				var refused *moq.FetchError
				if !errors.As(err, &refused) || refused.Code != e.code {
					t.Errorf("%q: %v, want code %d", e.track, err, e.code)
				}
				if e.track != "" {
					<-requests
				}
			}
			short, cancel := context.WithCancel(ctx)
			go func() { <-requests; cancel() }()
			if _, err := ends[0].Fetch(short, []string{"a"}, "hangs", moq.FetchOptions{}); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
			<-cancelled
		}
		// A subscription with another filter cannot be joined.
		sub, err := c.Subscribe(ctx, []string{"joined"}, "j", moq.SubscribeOptions{Filter: moq.FilterNextGroup})
		must(t, err)
		if _, err := c.Fetch(ctx, nil, "", moq.FetchOptions{Joining: sub}); err == nil {
			t.Error("joining FETCH of a subscription to the next group was accepted")
		}
		var aerr *quic.ApplicationError
		if err := context.Cause(client.Context()); !errors.As(err, &aerr) || aerr.ErrorCode != moq.CodeProtocolViolation {
			t.Errorf("session: %v", err)
		}
	})
}

// TestFetchUnsupported: without a handler a FETCH is refused.
func TestFetchUnsupported(t *testing.T) {
	eachDraft(t, func(t *testing.T, ctx context.Context, client, server *quic.Conn) {
		c, _ := sessions(t, ctx, client, server, moq.Handlers{}, moq.Handlers{})
		_, err := c.Fetch(ctx, []string{"a"}, "t", moq.FetchOptions{})
		var refused *moq.FetchError
		if !errors.As(err, &refused) || refused.Code != moq.FetchNotSupported {
			t.Error(err)
		}
	})
}
