package delay

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestDelayRandom compares the analysis with a dumb reference, byte by byte, on random captures: streams cut into packets
// differently on both sides, lost, sent again, reordered, with aliases of different lengths.
func TestDelayRandom(t *testing.T) { rapid.Check(t, testDelayRandom) }

// model is the dumb reference: when each byte after the alias was first seen, by stream and position.
type model map[position]time.Time

type position struct{ stream, pos int }

func (m model) see(stream int, pos int, at time.Time) {
	k := position{stream, pos}
	if old, ok := m[k]; !ok || at.Before(old) {
		m[k] = at
	}
}

// piece is a part of a stream in a packet.
type piece struct {
	stream, from, to int
	at               time.Time
}

// pieces cuts the streams and gives the pieces times; some pieces come twice, some not at all.
func pieces(t *rapid.T, label string, lengths []int, start time.Time, lose bool) []piece {
	var all []piece
	for s, n := range lengths {
		for from := 0; from < n; {
			to := min(n, from+rapid.IntRange(1, 700).Draw(t, label+" size"))
			if from == 0 {
				to = max(to, min(n, 20)) // without its header a stream is not known
			}
			copies := 1
			switch rapid.IntRange(0, 7).Draw(t, label+" fate") {
			case 0:
				copies = 2
			case 1:
				if lose && from > 0 {
					copies = 0
				}
			}
			for range copies {
				after := time.Duration(rapid.IntRange(0, 3_000_000).Draw(t, label+" time"))
				// A copy starts and ends elsewhere.
				a, b := max(0, from-rapid.IntRange(0, 50).Draw(t, label+" before")), min(n, to+rapid.IntRange(0, 50).Draw(t, label+" after"))
				all = append(all, piece{s, a, b, start.Add(after)})
			}
			from = to
		}
	}
	return all
}

// sendPieces writes the pieces as packets of one or two frames, and tells the model.
func sendPieces(c *synthConn, d direction, bits uint64, ps []piece, streams [][]byte, shifts []int, m model) {
	slices.SortStableFunc(ps, func(a, b piece) int { return a.at.Compare(b.at) })
	for i := 0; i < len(ps); i++ {
		var frames []byte
		at := ps[i].at
		for k := 0; k < 2 && i < len(ps) && (k == 0 || ps[i].at.Equal(at) || i%3 == 0); k++ {
			p := ps[i]
			frames = wire.AppendStream(frames, uint64(p.stream)<<2|bits, uint64(p.from), streams[p.stream][p.from:p.to], p.to == len(streams[p.stream]), true)
			for pos := p.from; pos < p.to; pos++ {
				if pos >= shifts[p.stream] {
					m.see(p.stream, pos-shifts[p.stream], at)
				}
			}
			i++
		}
		i--
		c.send(at, d, frames)
	}
}

func testDelayRandom(t *rapid.T) {
	draft := rapid.SampledFrom([]wire.Draft{wire.Draft14, wire.Draft16}).Draw(t, "draft")
	aliases := rapid.SliceOfNDistinct(rapid.SampledFrom([]uint64{0, 5, 63, 64, 16383, 16384, 1 << 30}), 4, 4, rapid.ID[uint64]).Draw(t, "aliases")
	nStreams, nSubs := rapid.IntRange(1, 5).Draw(t, "streams"), rapid.IntRange(1, 3).Draw(t, "subscribers")
	address := func(host, port int) string { return fmt.Sprintf("10.0.0.%d:%d", host, port) }
	if rapid.Bool().Draw(t, "IPv6") {
		address = func(host, port int) string { return fmt.Sprintf("[fd00::%d]:%d", host, port) }
	}
	tracks := []string{"audio", "video"}
	contents := make([][]byte, nStreams)
	for i := range contents {
		contents[i] = bytes.Repeat([]byte{byte(i), 1, 2, 3}, rapid.IntRange(1, 500).Draw(t, "content"))
		for k := range contents[i] {
			contents[i][k] += byte(k / 4)
		}
		contents[i][0] = byte(i) // ID of the first object
	}
	modes := rapid.SliceOfN(rapid.SampledFrom([]wire.SubgroupMode{0, 1, 2}), nStreams, nStreams).Draw(t, "modes")
	// build returns the streams and lengths up to the alias for a connection on which tracks have these aliases.
	build := func(alias []uint64) (streams [][]byte, shifts, lengths []int) {
		for i, c := range contents {
			s := stream(draft, alias[i%2], uint64(i), uint64(i%3)*2, modes[i], c)
			streams, shifts, lengths = append(streams, s), append(shifts, 1+wire.VarintLen(alias[i%2])), append(lengths, len(s))
		}
		return streams, shifts, lengths
	}
	control := func(c *synthConn, media direction, bits uint64, alias []uint64, at time.Time) {
		var ask, answer []byte
		for i, name := range tracks {
			ask = append(ask, subscribe(draft, uint64(2*i), name)...)
			answer = append(answer, subscribeOK(draft, uint64(2*i), alias[i])...)
		}
		// In two pieces, the second first: the stream has to be put together.
		for _, m := range []struct {
			d direction
			b []byte
		}{{media.other(), ask}, {media, answer}} {
			half := len(m.b) / 2
			c.send(at, m.d, wire.AppendStream(nil, 0, uint64(half), m.b[half:], false, true))
			c.send(at, m.d, wire.AppendStream(nil, 0, 0, m.b[:half], false, true))
		}
	}

	in := &Input{Draft: draft, Null: true}
	pubAlias := aliases[:2]
	pc := newSynth(&in.Publisher, address(1, 1000), address(2, 4433), []byte("pub"), []byte("relay-connection-id!"), epoch)
	control(pc, outgoing, 2, pubAlias, epoch)
	streams, shifts, lengths := build(pubAlias)
	seen := model{}
	sendPieces(pc, outgoing, 2, pieces(t, "publisher", lengths, epoch.Add(time.Millisecond), false), streams, shifts, seen)

	var all []Point
	var want []Subscriber
	for i := range nSubs {
		alias := aliases[i%3 : i%3+2]
		cid := bytes.Repeat([]byte{byte(i)}, i*3)
		c := newSynth(&in.Subscriber, address(3, 2000+i), address(2, 4433), cid, []byte("relay-connection-id?"), epoch)
		control(c, incoming, 3, alias, epoch)
		streams, shifts, lengths := build(alias)
		got := model{}
		sendPieces(c, incoming, 3, pieces(t, "subscriber", lengths, epoch.Add(2*time.Millisecond), true), streams, shifts, got)

		s := Subscriber{Name: c.client.String(), Missing: uint64(len(seen) - len(got))}
		var points []Point
		for k, at := range got {
			points = append(points, Point{0, at.Sub(seen[k]), 1})
		}
		s.Delay = dumbDistribution(points)
		all = append(all, points...)
		want = append(want, s)
	}
	shuffle(t, in.Subscriber)

	res, err := Analyze(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Err(); err != nil {
		t.Fatal(err)
	}
	for i := range res.Subscribers {
		checkPoints(t, &res.Subscribers[i])
		res.Subscribers[i].Points = nil
	}
	byName := func(a, b Subscriber) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(res.Subscribers, byName)
	if diff := gocmp.Diff(want, res.Subscribers); diff != "" {
		t.Errorf("subscribers (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(dumbDistribution(all), res.Total); diff != "" {
		t.Errorf("total (-want +got):\n%s", diff)
	}
}

// shuffle swaps neighbours that have different times, as captures on several CPUs do.
func shuffle(t *rapid.T, ps []capture.Packet) {
	for i := 1; i < len(ps); i++ {
		if !ps[i].Time.Equal(ps[i-1].Time) && rapid.IntRange(0, 9).Draw(t, "swap") == 0 {
			ps[i], ps[i-1] = ps[i-1], ps[i]
		}
	}
}

func checkPoints(t *rapid.T, s *Subscriber) {
	n := uint64(0)
	for i, p := range s.Points {
		n += p.Bytes
		if p.At < 0 || i > 0 && p.At < s.Points[i-1].At {
			t.Errorf("point %d is at %v, after %v", i, p.At, s.Points[max(i-1, 0)].At)
		}
	}
	if n != s.Delay.N {
		t.Errorf("points have %d bytes, the distribution %d", n, s.Delay.N)
	}
}

// dumbDistribution writes every byte's delay down, sorts them and looks the ranks up.
func dumbDistribution(points []Point) Distribution {
	var all []time.Duration
	for _, p := range points {
		for range p.Bytes {
			all = append(all, p.Delay)
		}
	}
	if len(all) == 0 {
		return Distribution{}
	}
	slices.Sort(all)
	at := func(thousandths int) float64 {
		rank := int(math.Ceil(float64(len(all)*thousandths) / 1000))
		return float64(all[rank-1]) / 1000
	}
	return Distribution{N: uint64(len(all)), P50: at(500), P90: at(900), P99: at(990), P999: at(999), Max: at(1000)}
}

func TestDistribute(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		point := rapid.Custom(func(t *rapid.T) Point {
			return Point{Delay: time.Duration(rapid.IntRange(-10, 3000).Draw(t, "delay")), Bytes: rapid.Uint64Range(0, 40).Draw(t, "bytes")}
		})
		a, b := rapid.SliceOfN(point, 0, 60).Draw(t, "a"), rapid.SliceOfN(point, 0, 60).Draw(t, "b")
		if diff := gocmp.Diff(dumbDistribution(slices.Concat(a, b)), Distribute(a, b)); diff != "" {
			t.Errorf("(-dumb +got):\n%s", diff)
		}
	})
}
