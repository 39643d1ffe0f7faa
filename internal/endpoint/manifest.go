package endpoint

import (
	"encoding/hex"
	"time"

	"github.com/fastrelay/fastrelay/internal/media"
)

// Object is one object as it was sent or received: where it belongs, and what it was.
type Object struct {
	Track    string    `json:"track"`
	Group    uint64    `json:"group"`
	Subgroup uint64    `json:"subgroup"` // 0 if it came in a datagram
	ID       uint64    `json:"object"`
	Priority uint8     `json:"priority"` // of the publisher
	Bytes    int       `json:"bytes"`    // of the payload
	SHA256   string    `json:"sha256"`   // of the payload, hexadecimal
	Datagram bool      `json:"datagram,omitempty"`
	Time     time.Time `json:"time"` // when it was handed to QUIC, or when its last byte was read
}

// hashOf returns the hash of a payload as manifests have it.
func hashOf(payload []byte) string {
	h := media.Hash(payload)
	return hex.EncodeToString(h[:])
}

// Published says what a publisher sent.
type Published struct {
	Namespace string   `json:"namespace"`
	Draft     uint8    `json:"draft"`
	Cipher    string   `json:"cipher"` // see Conn.Cipher
	Tracks    []string `json:"tracks"` // that were subscribed to
	Objects   []Object `json:"objects"`
	Bytes     uint64   `json:"bytes"` // payload bytes of all objects, each counted once
	Streams   uint64   `json:"streams"`
	Stopped   bool     `json:"stopped,omitempty"` // ended before the clip did
}

// TrackStart says from where on a subscriber is owed a track.
type TrackStart struct {
	Track      string `json:"track"`
	FirstGroup uint64 `json:"first_group"`
	Streams    uint64 `json:"streams"`              // that were read, reset ones included
	Announced  uint64 `json:"announced"`            // stream count of PUBLISH_DONE
	Done       bool   `json:"done"`                 // PUBLISH_DONE came, and said that the track has ended
	Failed     string `json:"failed,omitempty"`     // it said that something went wrong, in these words
	Incomplete bool   `json:"incomplete,omitempty"` // and not all of its streams, nor as many resets of streams whose header had not come
}

// Reset names a stream that the relay gave up, as far as its header arrived.
type Reset struct {
	Track    string `json:"track"`
	Group    uint64 `json:"group"`
	Subgroup uint64 `json:"subgroup"`
	Code     uint64 `json:"code"`
}

// Received says what one subscriber received.
type Received struct {
	Subscriber   int          `json:"subscriber"`
	Draft        uint8        `json:"draft"`
	Cipher       string       `json:"cipher"`
	Tracks       []TrackStart `json:"tracks"`
	Objects      []Object     `json:"objects"`
	Resets       []Reset      `json:"resets"`
	UnknownReset int          `json:"unknown_resets"` // streams that were reset before their header had arrived
	Violations   []string     `json:"violations"`     // of the order or the form of what came; at most 20 are kept
	Bytes        uint64       `json:"bytes"`          // payload bytes of all objects
	WireBytes    uint64       `json:"wire_bytes"`     // of all streams and datagrams of the tracks, MoQ headers included
	File         string       `json:"file,omitempty"` // the MP4 that was written
}

const maxViolations = 20

func (r *Received) violation(s string) {
	if len(r.Violations) < maxViolations {
		r.Violations = append(r.Violations, s)
	}
}
