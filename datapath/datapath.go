package datapath

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
)

// Errors of every backend. Backends wrap them with what concerns the call.
var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("datapath is closed")
	// ErrOutOfRange says that an ID is not below the capacity in Limits.
	ErrOutOfRange = errors.New("ID is beyond the datapath's capacity")
	// ErrFull says that a table has no room. The slow path serves what did not fit.
	ErrFull = errors.New("datapath table is full")
	// ErrUnknown says that an ID that the call refers to was not set before.
	ErrUnknown = errors.New("ID is not known to the datapath")
	// ErrCipher says that the backend cannot protect packets with this cipher.
	ErrCipher = errors.New("cipher is not supported by this datapath")
)

// IDs are indices into the datapath's tables; the caller chooses them, below the capacities in Limits.
type (
	UpstreamID uint32 // a connection that tracks come in on
	TrackID    uint32 // a track of an upstream
	ClientID   uint32 // a connection that tracks go out on
)

// NoClient in a StreamKey names the upstream's own entry.
const NoClient ClientID = 1<<32 - 1

// Fixed sizes, the same in every backend and in bpf/types.h.
const (
	CIDLen           = 20   // bytes of every connection ID that the relay issues; what a long ID takes from a full packet pays for longer fields
	MaxFrames        = 64   // frames that are looked at in a packet, each byte of PADDING being one
	MaxForward       = 4    // media frames that are forwarded of one packet
	MembersPerTrack  = 1024 // clients subscribed to one track
	MaxPacketSize    = 1452 // UDP payload bytes of a packet, in or out
	NumberLen        = 4    // bytes of the packet number of forwarded packets
	TagLen           = 16   // bytes that packet protection adds; zeros with CipherNull
	ReplaySlots      = 1024 // packet numbers that the replay window of an upstream remembers
	MaxSubgroupBytes = 40   // bytes that are read of a subgroup header: type, alias, group, subgroup, priority
)

// Limits are the capacities of a datapath's tables. The zero value of a field means its default.
type Limits struct {
	Upstreams     uint32 // default 256
	CIDs          uint32 // connection IDs of all upstreams; default 2048
	Tracks        uint32 // default 1024
	Clients       uint32 // default 1024
	Subscriptions uint32 // default 16384
	Streams       uint32 // upstream streams that have been decided and are not yet evicted, see Share; default 16384
	ClientStreams uint32 // streams forwarded to clients and not yet evicted, see Share; default 65536
	RingBytes     uint32 // bytes of records not yet drained, a power of two of at least a page; default 4 MiB
}

// WithDefaults returns l with every zero field set to its default.
func (l Limits) WithDefaults() Limits {
	set := func(p *uint32, v uint32) {
		if *p == 0 {
			*p = v
		}
	}
	set(&l.Upstreams, 256)
	set(&l.CIDs, 2048)
	set(&l.Tracks, 1024)
	set(&l.Clients, 1024)
	set(&l.Subscriptions, 16384)
	set(&l.Streams, 16384)
	set(&l.ClientStreams, 65536)
	set(&l.RingBytes, 4<<20)
	return l
}

// Cipher is the packet protection of a connection's 1-RTT packets, by its TLS number.
type Cipher uint16

// The ciphers of QUIC version 1 (RFC 9001, section 5.3), and none.
const (
	CipherNull             Cipher = 0 // nothing is protected: for labs, and only where it is asked for by name
	CipherAES128GCM        Cipher = 0x1301
	CipherAES256GCM        Cipher = 0x1302
	CipherChaCha20Poly1305 Cipher = 0x1303
)

func (c Cipher) String() string {
	switch c {
	case CipherNull:
		return "null"
	case CipherAES128GCM:
		return "aes-128-gcm"
	case CipherAES256GCM:
		return "aes-256-gcm"
	case CipherChaCha20Poly1305:
		return "chacha20-poly1305"
	default:
		return "unknown"
	}
}

// Protection says how the packets of one direction of a connection are protected on the wire.
type Protection struct {
	Cipher     Cipher
	Version    uint32 // QUIC version, which names the key labels
	Secret     []byte // 1-RTT traffic secret of generation 0, 32 or 48 bytes; none with CipherNull
	Generation uint64 // key updates since (RFC 9001, section 6)
}

// Upstream describes a connection that tracks come in on.
type Upstream struct {
	Remote     netip.AddrPort // the publisher; packets from elsewhere are for userspace alone
	CIDs       [][]byte       // connection IDs that the relay issued and that are not retired, CIDLen bytes each
	Streams    uint8          // the two low bits of the stream IDs of the peer's unidirectional streams: 2 if it is the client, 3 if the server (RFC 9000, section 2.1)
	NextNumber uint64         // numbers below it are not forwarded: largest received so far plus one
	Protection Protection     // of what the publisher sends

	// PriorityCID says that the publisher writes each packet's priority into the last byte of the connection ID, which is 0
	// in CIDs (thesis, section 3.1.2). It then counts for all media of the packet, instead of what their headers say.
	// Without it packets whose connection ID ends otherwise than in CIDs are not the upstream's.
	PriorityCID bool
}

// CheckCIDs says what is wrong with u.CIDs. Datapaths find them without the last byte, which a publisher may change.
func (u *Upstream) CheckCIDs() error {
	const last = CIDLen - 1
	for i, cid := range u.CIDs {
		if len(cid) != CIDLen {
			return fmt.Errorf("connection ID has %d bytes, the relay's have %d", len(cid), CIDLen)
		}
		if u.PriorityCID && cid[last] != 0 {
			return fmt.Errorf("connection ID %x must end in 0: the publisher writes the priority there", cid)
		}
		for _, other := range u.CIDs[:i] {
			if bytes.Equal(cid[:last], other[:last]) && cid[last] != other[last] {
				return fmt.Errorf("connection IDs %x and %x differ in the last byte only", other, cid)
			}
		}
	}
	return nil
}

// Track describes a track of an upstream.
type Track struct {
	Upstream        UpstreamID
	Alias           uint64 // track alias on the upstream
	Draft           uint8  // 14 or 16; draft 16 allows subgroup headers without a priority
	DefaultPriority uint8  // for those
}

// Client describes a connection that tracks go out on.
type Client struct {
	Local, Remote netip.AddrPort // the relay's address and the subscriber's; both of one family
	DCID          []byte         // 0 to 20 bytes
	MaxSize       int            // proven size of a UDP payload, at most MaxPacketSize
	Protection    Protection     // of what the relay sends
	MaxDatagram   uint64         // the client's max_datagram_frame_size, type and length included (RFC 9221, section 3); 0: none
	PriorityCID   bool           // write the packet's most important priority into the last byte of DCID, see Upstream; DCID has CIDLen bytes
}

// Subscription is one client's subscription to one track.
type Subscription struct {
	Alias      uint64 // track alias on the client's connection
	FirstGroup uint64 // streams and datagrams of groups outside FirstGroup…LastGroup are not forwarded
	LastGroup  uint64 // 0: without end
	Priority   uint8  // of the subscriber, 0–255, lower is more important
}

// StreamKey names a stream that the datapath has an entry for: of an upstream, and for one client of it or, with NoClient,
// the upstream's own entry, which holds the decision.
type StreamKey struct {
	Upstream UpstreamID
	Client   ClientID
	Stream   uint64 // upstream stream ID
}

// Datapath forwards media packets. All methods may be called at any time from any goroutine. Setting an ID that is set
// already changes it; setting it to nil removes it, with everything that refers to it, and is no error if there is nothing.
// None of them waits for packets to come.
type Datapath interface {
	// SetUpstream adds, changes or removes an upstream. Changing keeps its streams and its replay window.
	SetUpstream(id UpstreamID, u *Upstream) error
	// SetTrack adds, changes or removes a track.
	SetTrack(id TrackID, t *Track) error
	// SetClient adds, changes or removes a client, and returns the words that it shares with the datapath. A client that
	// is removed and added again is a new one: its space is zeroed and nothing of the old one is forwarded to it.
	SetClient(id ClientID, c *Client) (*Space, error)
	// SetSubscription adds, changes or removes a client's subscription. Streams that the datapath decided before are
	// not forwarded to a client that joins. A change keeps the group that the client's policy has cut.
	SetSubscription(t TrackID, c ClientID, s *Subscription) error
	// Evict removes the entries of streams that are finished. A stream without an entry is never forwarded again:
	// evicting an upstream's own entry raises its watermark to that stream. What may be opening it now is waited for.
	Evict(keys []StreamKey) error
	// Drain waits for packets under way that may open a stream, and then calls f for every record up to the position that the
	// ring has then, in the order of each client's packet numbers as far as one CPU made them, and waits for those that
	// are being written. So of a stream whose start has been received, it is known afterwards for whom the datapath opened
	// it, and it opens it for nobody else. It is cheap when there is none.
	// The record is valid during the call only. Of concurrent calls each returns when all records up to its position have
	// been given to somebody's f, which has returned. f must not call the datapath.
	Drain(f func(*Record)) error
	// Counters returns how many frames and packets ended for each reason since the start.
	Counters() (Counters, error)
	// Close detaches and frees everything. It is idempotent; other calls return ErrClosed afterwards.
	Close() error
}
