package replay

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// FuzzRun: a file that nobody recorded is replayed or refused.
func FuzzRun(f *testing.F) {
	var b bytes.Buffer
	w := NewWriter(nopCloser{&b})
	w.Policy(Policy{Client: 1, Version: 1, Policy: datapath.Policy{Rate: 1000, Burst: 5000, Bands: []datapath.Band{{UpTo: datapath.MaxImportance, Cut: true}}}})
	w.Record(&datapath.Record{Client: 1, Policy: 1, Time: time.Unix(1e9, 0), Frames: []datapath.RecordFrame{
		{Opened: true, UpstreamStream: 2, Length: 700, Group: 3}, {UpstreamStream: 2, Offset: 700, Length: 500},
		{Datagram: true, Track: 1, Length: 90, Group: 3, Reason: datapath.ReasonDropShare},
	}})
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Run(bytes.NewReader(b))
		if err == nil && r.Differ > r.Decisions {
			t.Errorf("%+v", r)
		}
	})
}

// TestBounds: a small file that names many clients or upstreams is refused before each of them has taken its memory.
func TestBounds(t *testing.T) {
	for name, record := range map[string]func(i int) *datapath.Record{
		"clients": func(i int) *datapath.Record {
			return &datapath.Record{Client: datapath.ClientID(i), Frames: []datapath.RecordFrame{{UpstreamStream: 2}}}
		},
		"upstreams": func(i int) *datapath.Record {
			return &datapath.Record{Upstream: datapath.UpstreamID(i), Frames: []datapath.RecordFrame{{UpstreamStream: 2}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := NewWriter(nopCloser{&b})
			for i := range maxClients + 1 {
				w.Record(record(i))
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r, err := Run(bytes.NewReader(b.Bytes()))
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Errorf("replayed: %+v", r)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 512<<20 {
				t.Errorf("took %d MiB for a file of %d KiB", took>>20, b.Len()>>10)
			}
		})
	}
}
