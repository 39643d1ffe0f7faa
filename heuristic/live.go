package heuristic

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// Live is "live", the default. (Interim: reserve for what is more important, group cut.)
type Live struct{}

func (l *Live) Name() string { return "live" }

func (l *Live) Policy(v *View) datapath.Policy {
	p, ok := plan(v, 500*time.Millisecond)
	if !ok || len(v.Classes) == 0 {
		return datapath.Policy{}
	}
	var reserve uint64
	n := min(len(v.Classes), datapath.Bands)
	for i := range n {
		b := datapath.Band{UpTo: v.Classes[i].Importance, Reserve: reserve, Overflow: i == 0, Cut: i > 0 && i < len(v.Classes)-1}
		reserve += v.Classes[i].Peak
		p.Bands = append(p.Bands, b)
	}
	p.Bands[n-1].UpTo = datapath.MaxImportance
	p.Overflow = reserve
	p.Burst += reserve
	return p
}
