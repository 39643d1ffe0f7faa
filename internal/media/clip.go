package media

import (
	"crypto/sha256"
	"time"
)

// Publisher priorities of objects: 0–255, lower is more important (draft-ietf-moq-transport, section "Priorities").
// There is room between them for what an application wants to put there.
const (
	PriorityCatalog      uint8 = 0
	PriorityAudio        uint8 = 16
	PriorityKey          uint8 = 32
	PriorityReference    uint8 = 64
	PriorityNonReference uint8 = 128
)

// Kind is what a track carries.
type Kind string

// Kinds of tracks.
const (
	KindVideo   Kind = "video"
	KindAudio   Kind = "audio"
	KindCatalog Kind = "catalog"
)

// Clip is a media file cut into tracks, groups and objects. It is not changed by reading it; [Clip.SetLayout] changes it.
type Clip struct {
	// Tracks in the order of the file: video and audio. The catalog is apart, see [Clip.CatalogTrack].
	Tracks []*Track
	// Duration is the end of the last object.
	Duration time.Duration
	// Groups holds the start of each group, by group number.
	Groups []time.Duration
	// Notes says, one sentence each, what of the file was left out and why.
	Notes []string
}

// Track is one elementary stream.
type Track struct {
	Name      string // "video", "audio", then "video2", "audio2"
	Kind      Kind
	Codec     string // RFC 6381, for example "avc1.64001E"; the sample entry's name where there is no such rule
	Timescale uint32 // units per second in the chunks
	Width     int    // pixels; 0 for audio
	Height    int
	Init      []byte   // CMAF initialization segment (ftyp+moov) of this track alone
	Objects   []Object // in decode order
}

// Object is one sample with what MoQ says of it.
type Object struct {
	Group    uint64
	ID       uint64 // within the group, from 0, in decode order
	Subgroup uint64 // which stream of the group, see [Layout]
	Priority uint8
	Time     time.Duration // decode time since the start of the clip: when to send it
	Duration time.Duration
	Key      bool // a decoder can start here
	// Reference is false if no other frame needs this one.
	Reference bool
	Payload   []byte // CMAF chunk: moof and mdat with one sample, tfdt set
}

// Hash returns the SHA-256 of the payload, for comparing objects across processes.
func (o *Object) Hash() [sha256.Size]byte { return Hash(o.Payload) }

// Hash returns what [Object.Hash] of an object with this payload returns; for the receiving side.
func Hash(payload []byte) [sha256.Size]byte { return sha256.Sum256(payload) }

// Track returns the track of that name, or nil.
func (c *Clip) Track(name string) *Track {
	for _, t := range c.Tracks {
		if t.Name == name {
			return t
		}
	}
	return nil
}
