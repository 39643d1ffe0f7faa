package quicadapt_test

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/quicadapt"
)

// TestSendFailed: what a packet carried that the datapath could not send after all goes out at once, not after a timeout.
func TestSendFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		p := newPair(t, ctx, false, 0, config())
		p.dp.lose = func() bool { return true }
		var id uint64
		data := pattern(1000, 1)
		if err := p.dp.forward(p.id, 0, 2, &id, data, 0, true); err != nil {
			t.Fatal(err)
		}
		p.dp.Drain(func(r *datapath.Record) { quicadapt.OnRecord(p.server, r) })
		failed := p.dp.lastRecord()
		failed.Reason, failed.Frames = datapath.ReasonSendFailed, nil
		fast := p.server.FastStream(0, 2)
		fast.Write(data)
		fast.Close()
		at := time.Now()
		quicadapt.OnRecord(p.server, failed)
		quicadapt.OnRecord(p.server, failed) // once is enough
		s, err := p.client.AcceptUniStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v; want the %d that were sent", len(got), err, len(data))
		}
		if spent := time.Since(at); spent > 10*time.Millisecond { // 5 ms of delay
			t.Errorf("it took %v", spent)
		}
		if lost := p.server.Stats().LostPackets; lost != 1 {
			t.Errorf("%d packets were lost, want 1", lost)
		}
	})
}
