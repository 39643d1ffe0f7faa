package media

import (
	"fmt"
	"slices"
	"time"
)

// clip cuts the movie into tracks, groups and objects.
func (m *movie) clip() (c *Clip, err error) {
	defer guard(&err)
	m.rebase()
	c = &Clip{Notes: m.notes}
	names := map[Kind]int{}
	for i, s := range m.sources {
		t := &Track{Kind: s.kind, Name: string(s.kind), Codec: s.codec, Timescale: s.timescale}
		if names[s.kind]++; names[s.kind] > 1 {
			t.Name = fmt.Sprintf("%s%d", s.kind, names[s.kind])
		}
		if s.kind == KindVideo {
			t.Width, t.Height = int(s.trak.Tkhd.Width>>16), int(s.trak.Tkhd.Height>>16)
		}
		id := uint32(i + 1)
		if t.Init, err = initSegment(s, id); err != nil {
			return nil, fmt.Errorf("track %d: %w", s.id, err)
		}
		t.Objects = make([]Object, len(s.samples))
		for j, sm := range s.samples {
			o := &t.Objects[j]
			o.Time, o.Duration = toDuration(sm.dts, s.timescale), toDuration(uint64(sm.dur), s.timescale)
			o.Key = sm.sync
			o.Reference = !sm.disposable
			if o.Payload, err = chunk(uint32(j+1), id, sm); err != nil {
				return nil, fmt.Errorf("sample %d of track %d: %w", j+1, s.id, err)
			}
			c.Duration = max(c.Duration, o.Time+o.Duration)
		}
		c.Tracks = append(c.Tracks, t)
	}
	c.group()
	c.SetLayout(PerFrame)
	return c, nil
}

// rebase lets the first sample of all tracks be at time 0 and keeps the tracks' distance.
func (m *movie) rebase() {
	first := m.sources[0]
	for _, s := range m.sources[1:] {
		if before(s.samples[0].dts, s.timescale, first.samples[0].dts, first.timescale) {
			first = s
		}
	}
	zero := first.samples[0].dts
	for _, s := range m.sources {
		shift := scale(zero, uint64(first.timescale), uint64(s.timescale))
		for i := range s.samples {
			s.samples[i].dts -= shift
		}
	}
}

// group numbers the objects. The first video track leads: each of its key frames starts a group.
func (c *Clip) group() {
	lead := slices.IndexFunc(c.Tracks, func(t *Track) bool { return t.Kind == KindVideo })
	if lead < 0 {
		for at := time.Duration(0); at == 0 || at < c.Duration; at += time.Second {
			if len(c.Groups) == MaxSamples { // a gap of years
				break
			}
			c.Groups = append(c.Groups, at)
		}
	} else {
		for i, o := range c.Tracks[lead].Objects {
			if i == 0 {
				c.Groups = []time.Duration{0}
			} else if o.Key {
				c.Groups = append(c.Groups, o.Time)
			}
		}
	}
	for i, t := range c.Tracks {
		switch {
		case i == lead:
			t.number(func(i int, group uint64) uint64 {
				if i > 0 && t.Objects[i].Key {
					group++
				}
				return group
			})
		case t.Kind == KindVideo: // a group must begin with a key frame, so it begins at the next one
			t.number(func(i int, group uint64) uint64 {
				if !t.Objects[i].Key {
					return group
				}
				return c.groupAt(t.Objects[i].Time, group)
			})
		default:
			t.number(func(i int, group uint64) uint64 { return c.groupAt(t.Objects[i].Time, group) })
		}
	}
}

// groupAt returns the last group that has begun at time at; group is one that has.
func (c *Clip) groupAt(at time.Duration, group uint64) uint64 {
	for group+1 < uint64(len(c.Groups)) && c.Groups[group+1] <= at {
		group++
	}
	return group
}

func (t *Track) number(next func(i int, group uint64) uint64) {
	group, id := uint64(0), uint64(0)
	for i := range t.Objects {
		if g := next(i, group); g != group {
			group, id = g, 0
		}
		t.Objects[i].Group, t.Objects[i].ID = group, id
		id++
	}
}
