package main

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/command"
	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/heuristic"
)

// TestStairs: down while much waits, up again when nothing does, and no further than there are steps.
func TestStairs(t *testing.T) {
	s := &stairs{}
	v := heuristic.View{Rate: 1_000_000, Classes: []heuristic.Class{{Importance: 10}, {Importance: 20}, {Importance: 30}}}
	for _, step := range []struct {
		at      time.Duration
		backlog uint64
		kept    uint16 // everything up to this importance is sent
	}{
		{0, 0, datapath.MaxImportance},
		{300, 400_000, datapath.MaxImportance},
		{350, 600_000, 20},
		{400, 600_000, 20},
		{600, 600_000, 10},
		{900, 600_000, 10},
		{1700, 0, 20},
		{2000, 0, 20},
		{2800, 1, 20},
		{2900, 0, datapath.MaxImportance},
	} {
		v.Now, v.Backlog = step.at*time.Millisecond, step.backlog
		p := s.Policy(&v)
		if err := p.Check(); err != nil {
			t.Fatalf("at %d ms: %v", step.at, err)
		}
		if b := p.Bands[0]; b.UpTo != step.kept || b.Drop != 0 || len(p.Bands) > 1 && p.Bands[1].Drop != 1 {
			t.Errorf("at %d ms: %+v, want everything up to %d", step.at, p.Bands, step.kept)
		}
	}
	v.Classes = v.Classes[:1]
	if p := s.Policy(&v); len(p.Bands) != 1 || p.Bands[0].Drop != 0 {
		t.Errorf("of one importance alone: %+v", p.Bands)
	}
}

// TestStudy: the command's study knows it; it beats tail drop, and the default beats it.
func TestStudy(t *testing.T) {
	if err := heuristic.Register("stairs", func() heuristic.Heuristic { return &stairs{} }); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	args := []string{"study", "--scenario", "half-rate", "--heuristic", "stairs,live", "--congestion", "scream",
		"--seeds", "1", "--traces", "none", "--out", t.TempDir(), "--json"}
	if exit := command.Main(args, &out, &errs); exit != 0 {
		t.Fatalf("exit %d: %s", exit, &errs)
	}
	var summary struct {
		Rows []struct {
			Heuristic    string
			DecodableFPS struct{ Mean float64 } `json:"decodable_fps"`
		}
	}
	if err := json.Unmarshal(out.Bytes(), &summary); err != nil {
		t.Fatalf("%v in %s", err, &out)
	}
	fps := map[string]float64{}
	for _, r := range summary.Rows {
		fps[r.Heuristic] = r.DecodableFPS.Mean
	}
	if !(fps["none"] < fps["stairs"] && fps["stairs"] < fps["live"]) {
		t.Errorf("not in order of merit: %v", fps)
	}
}
