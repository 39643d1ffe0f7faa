package quicadapt_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// scripted is a datapath that forwards what a test tells it to.
type scripted struct {
	drainMu sync.Mutex
	mu      sync.Mutex
	socket  net.PacketConn
	clients map[datapath.ClientID]*scriptedClient
	records []datapath.Record
	last    datapath.Record // the newest, drained or not
	ups     map[datapath.UpstreamID]*datapath.Upstream
	evicted []datapath.StreamKey
	lose    func() bool // forwarded packets that are recorded and do not arrive
	broken  atomic.Bool // Drain fails
}

type scriptedClient struct {
	datapath.Client
	space *datapath.Space
	keys  *wire.Keys
	slots map[uint64]uint8 // by stream ID
}

func newScripted(socket net.PacketConn) *scripted {
	return &scripted{
		socket: socket, clients: make(map[datapath.ClientID]*scriptedClient),
		ups: make(map[datapath.UpstreamID]*datapath.Upstream), lose: func() bool { return false },
	}
}

func (d *scripted) SetUpstream(id datapath.UpstreamID, u *datapath.Upstream) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ups[id] = u
	return nil
}

func (d *scripted) SetTrack(datapath.TrackID, *datapath.Track) error { return nil }

func (d *scripted) SetSubscription(datapath.TrackID, datapath.ClientID, *datapath.Subscription) error {
	return nil
}

func (d *scripted) SetClient(id datapath.ClientID, c *datapath.Client) (*datapath.Space, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c == nil {
		delete(d.clients, id)
		return nil, nil
	}
	keys, err := wire.NewKeys(wire.Suite(c.Protection.Cipher), c.Protection.Version, c.Protection.Secret)
	if err != nil {
		return nil, err
	}
	for range c.Protection.Generation {
		keys.Update()
	}
	x := d.clients[id]
	if x == nil {
		x = &scriptedClient{space: datapath.NewSpace(nil, nil), slots: make(map[uint64]uint8)}
		d.clients[id] = x
	}
	x.Client, x.keys = *c, keys
	return x.space, nil
}

func (d *scripted) Evict(keys []datapath.StreamKey) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.evicted = append(d.evicted, keys...)
	return nil
}

func (d *scripted) Drain(f func(*datapath.Record)) error {
	if d.broken.Load() {
		return errors.New("the records cannot be read")
	}
	d.drainMu.Lock()
	defer d.drainMu.Unlock()
	d.mu.Lock()
	records := d.records
	d.records = nil
	d.mu.Unlock()
	for i := range records {
		f(&records[i])
	}
	return nil
}

func (d *scripted) Counters() (datapath.Counters, error) { return datapath.Counters{}, nil }
func (d *scripted) Close() error                         { return nil }

// lastRecord returns a copy of the record of what forward sent last. The boundary's loop may have drained it, before the test does.
func (d *scripted) lastRecord() *datapath.Record {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.last
	r.Frames = slices.Clone(r.Frames)
	return &r
}

// forward sends a piece of an upstream's stream to a client, as a datapath would, and opens the client's stream for the
// first piece.
func (d *scripted) forward(id datapath.ClientID, up datapath.UpstreamID, source uint64, stream *uint64, data []byte, offset uint64, fin bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.clients[id]
	opened := offset == 0
	if opened {
		head := atomic.LoadUint64(c.space.Word(datapath.WordPoolHead))
		if head == atomic.LoadUint64(c.space.Word(datapath.WordPoolTail)) {
			return fmt.Errorf("pool is empty")
		}
		w := atomic.LoadUint64(c.space.Word(datapath.WordPool + int(head%datapath.PoolSize)))
		atomic.StoreUint64(c.space.Word(datapath.WordPoolHead), head+1)
		*stream = w & datapath.StreamOffset
		c.slots[*stream] = uint8(w >> 48)
	}
	slot := c.slots[*stream]
	word, limit := c.space.StreamWord(slot)
	if word&datapath.StreamClosed != 0 {
		return fmt.Errorf("the stream is closed")
	}
	end := offset + uint64(len(data))
	if end > limit || !c.space.Advance(slot, end, atomic.LoadUint64(c.space.Word(datapath.WordDataLimit))) {
		return fmt.Errorf("no credit")
	}
	number := c.space.TakeNumber()
	packet := c.keys.Seal(nil, c.keys.Generation(), c.DCID, number, datapath.NumberLen, wire.AppendStream(nil, *stream, offset, data, fin, false))
	d.last = datapath.Record{
		Time: time.Now(), Number: number, Upstream: up, Client: id, Generation: c.space.Generation(),
		Size: uint16(len(packet)), Frames: []datapath.RecordFrame{{
			UpstreamStream: source, ClientStream: *stream, Offset: offset, Length: uint32(len(data)), Slot: slot, Fin: fin, Opened: opened,
		}},
	}
	d.records = append(d.records, d.last)
	if d.lose() {
		return nil
	}
	ip := c.Remote.Addr().As16()
	_, err := d.socket.WriteTo(packet, &net.UDPAddr{IP: ip[:], Port: int(c.Remote.Port())})
	return err
}
