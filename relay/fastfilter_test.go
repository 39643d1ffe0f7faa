package relay_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestFastFilters subscribes in the middle of a group with each filter while the datapath forwards it: what comes is what the filter selects, once each.
// The datapath has the groups that are wanted whole, and the relay the rest; a joining FETCH brings the group's beginning.
func TestFastFilters(t *testing.T) {
	at := func(group, object uint64) moq.Location { return moq.Location{Group: group, Object: object} }
	for _, d := range []wire.Draft{wire.Draft14, wire.Draft16} {
		for _, c := range []struct {
			name string
			o    moq.SubscribeOptions
			want string
			fast uint64 // streams
		}{
			{"next group", moq.SubscribeOptions{Filter: moq.FilterNextGroup}, "6/0 6/1 7/0", 2},
			{"largest object", moq.SubscribeOptions{Filter: moq.FilterLargestObject}, "5/4 5/5 5/10 6/0 6/1 7/0", 2},
			{"absolute start before the largest", moq.SubscribeOptions{Filter: moq.FilterAbsoluteStart, Start: at(4, 0)}, "5/4 5/5 5/10 6/0 6/1 7/0", 3},
			{"absolute start in the group", moq.SubscribeOptions{Filter: moq.FilterAbsoluteStart, Start: at(5, 5)}, "5/5 5/10 6/0 6/1 7/0", 2},
			{"absolute start", moq.SubscribeOptions{Filter: moq.FilterAbsoluteStart, Start: at(6, 0)}, "6/0 6/1 7/0", 2},
			{"absolute start within a group", moq.SubscribeOptions{Filter: moq.FilterAbsoluteStart, Start: at(6, 1)}, "6/1 7/0", 1},
			{"absolute range", moq.SubscribeOptions{Filter: moq.FilterAbsoluteRange, Start: at(6, 0), EndGroup: 6}, "6/0 6/1", 1},
			{"absolute range within a group", moq.SubscribeOptions{Filter: moq.FilterAbsoluteRange, Start: at(6, 1), EndGroup: 7}, "6/1 7/0", 1},
			{"absolute range that is in progress", moq.SubscribeOptions{Filter: moq.FilterAbsoluteRange, Start: at(5, 0), EndGroup: 5}, "5/4 5/5 5/10", 1},
		} {
			t.Run(fmt.Sprintf("%s %v", c.name, d), func(t *testing.T) {
				inFallback(t, datapath.Limits{}, func(f *fallback) {
					t := f.t
					f.wire = f.hostile(d, nil)
					f.pub = f.publisherOn(f.wire.conn, "live")
					f.join(d, nil)
					f.alias = (<-f.pub.asks).alias
					sleep(t, 1)
					five, end := f.group(5)
					for id := range uint64(4) {
						five(id)
					}
					f.joinWith(d, nil, c.o)
					late := f.readers[1]
					var past []string
					if c.o.Filter == moq.FilterLargestObject {
						fetch, err := late.session.Fetch(f.context(), []string{"live"}, "video", moq.FetchOptions{Joining: late.sub})
						must(t, err)
						past = fetched(f.context(), fetch, func(o wire.FetchObject, b []byte) {
							if string(b) != string(patterned(o.Group, o.ID)) {
								t.Errorf("fetched object %d/%d has %d bytes, or others", o.Group, o.ID, len(b))
							}
						})
						must(t, fetch.Close())
						if want := []string{"5/0/0", "5/0/1", "5/0/2", "5/0/3", "EOF"}; !slices.Equal(past, want) {
							t.Errorf("fetched %v, want %v", past, want)
						}
					}
					five(4)
					five(5)
					end()
					h := wire.SubgroupHeader{TrackAlias: f.alias, Group: 5, Subgroup: 10, SubgroupMode: wire.SubgroupExplicit}
					must(t, f.pub.stream(h, wire.Object{ID: 10, Payload: patterned(5, 10)}).Close())
					sleep(t, 1)
					six, end := f.group(6)
					six(0)
					six(1)
					end()
					seven, end := f.group(7)
					seven(0)
					end()
					sleep(t, 2)
					if got := f.received(late, 0); !slices.Equal(got, strings.Fields(c.want)) {
						t.Errorf("got %v, want %s", got, c.want)
					}
					if got, want := f.received(f.readers[0], 0), strings.Fields("5/0 5/1 5/2 5/3 5/4 5/5 5/10 6/0 6/1 7/0"); !slices.Equal(got, want) {
						t.Errorf("the first subscriber got %v", got)
					}
					if s := subscribers(f.relay); s[0].FastStreams != 4 || s[1].FastStreams != c.fast {
						t.Errorf("%d and %d streams are fast, want 4 and %d", s[0].FastStreams, s[1].FastStreams, c.fast)
					}
				})
			})
		}
	}
}
