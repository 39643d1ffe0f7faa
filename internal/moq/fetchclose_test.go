package moq_test

import (
	"context"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/quic-go/quic-go"
)

// TestFetchCloseWhileReading closes a FETCH whose reader waits for a peer that neither sends on nor heeds FETCH_CANCEL, at
// any moment from before its stream comes: the reader must come back.
func TestFetchCloseWhileReading(t *testing.T) {
	eachDraft(t, func(t *testing.T, ctx context.Context, client, server *quic.Conn) {
		h := moq.Handlers{Fetch: func(r *moq.FetchRequest) {
			must(t, r.Accept(0, moq.Location{Group: 1}, false, nil))
			out, _, err := r.Open()
			must(t, err)
			<-out.Context().Done() // the other end's STOP_SENDING, or the end of the session
		}}
		c, s := sessions(t, ctx, client, server, h, h)
		go deliver(ctx, c)
		go deliver(ctx, s)
		for i := range 20 {
			f, err := c.Fetch(ctx, []string{"a"}, "t", moq.FetchOptions{})
			must(t, err)
			done := make(chan error, 1)
			opening, cancel := context.WithCancel(ctx)
			go func() {
				_, err := f.Next(opening)
				done <- err
			}()
			if i%2 == 0 {
				settle()
			}
			must(t, f.Close())
			cancel()
			select {
			case err := <-done:
				if err == nil {
					t.Error("an object came from nowhere")
				}
			case <-time.After(time.Minute): // virtual
				t.Fatal("reader hangs")
			}
		}
	})
}
