// Package scenario describes what a study runs: the media, the links, and who subscribes behind which.
//
//	publisher ──► relay ──┬── link (rate over time, delay, queue, loss) ──┬──► subscribers
//	  media               │                                               └──► subscribers
//	                      └── link ──────────────────────────────────────────► subscribers
//
// Scenarios are TOML files. Parse refuses whatever it does not understand, naming file, line and key and saying what is allowed.
package scenario

import (
	"time"

	"github.com/fastrelay/fastrelay/internal/media"
)

// Scenario is what a run simulates, whatever the heuristic, the congestion control and the seed.
type Scenario struct {
	// Name is that of the file without its extension.
	Name string `toml:"-"`
	// Description says in a sentence what the scenario is for.
	Description string `toml:"description"`
	// Duration is how long media are published: 1 s to 10 min.
	Duration Duration `toml:"duration"`
	// Playout is how long after its capture a frame is of use to the player; default 1 s.
	Playout Duration `toml:"playout"`
	// Timeout is the subscribers' delivery timeout, from when a stream's first byte came to the relay; default: Playout.
	Timeout Duration `toml:"timeout"`
	// Control is how often the relay sends each subscriber a control message; default 250 ms.
	Control Duration `toml:"control"`

	Media       Media         `toml:"media"`
	Links       []Link        `toml:"link"`
	Subscribers []Subscribers `toml:"subscribers"`
}

// Media says what is published: a file, or a model of groups of pictures with audio beside them.
type Media struct {
	// File is an MP4 file, relative to the scenario's; "sample" is the clip that comes with fastrelay. It is played again and again.
	File string `toml:"file"`
	// Bitrate is that of all media together. With a file, its frames are scaled to it; default then: as they are.
	Bitrate Rate `toml:"bitrate"`
	// Streams is "frame", a stream for each object, or "layer", a stream for each layer of a group. Default: frame.
	Streams string `toml:"streams"`

	// Of the model alone.
	FPS   int `toml:"fps"`   // frames per second; default 30
	Group int `toml:"group"` // frames in a group; default 30
	// Key, Reference and NonReference are the sizes of frames, in a unit that follows from the bit rate; default 6, 1, 0.5.
	Key          float64 `toml:"key"`
	Reference    float64 `toml:"reference"`
	NonReference float64 `toml:"non_reference"`
	// Every is which frame nothing refers to: the third, sixth, … with 3, the default; 0 for none. Not with Layers.
	Every *int `toml:"every"`
	// Layers is the number of temporal layers, 1 to 4: with n, frames repeat every 2ⁿ⁻¹, and each depends on the last of a lower
	// layer. Default 1: reference frames in a row.
	Layers int `toml:"layers"`
	// Audio is the share of the bytes that is audio, 50 frames a second; default 0.05.
	Audio *float64 `toml:"audio"`
	// Variation is the standard deviation of frame sizes, as a share; default 0.15.
	Variation *float64 `toml:"variation"`

	// Burst is how often the publisher hands over what it has; default: each frame at once.
	Burst Duration `toml:"burst"`
	// Uplink is how fast the publisher sends; default 100 Mbit/s.
	Uplink Rate `toml:"uplink"`

	// Clip is the file, once it has been read.
	Clip *media.Clip `toml:"-"`
}

// Link is a bottleneck.
type Link struct {
	Name string `toml:"name"`
	// Rate is a constant rate; otherwise Trace says how it changes.
	Rate  Rate  `toml:"rate"`
	Trace Trace `toml:"trace"`
	// Delay is one way, each way; default 20 ms.
	Delay *Duration `toml:"delay"`
	// Queue is how much waits at most: a time at the rate of the moment, or bytes. Default 200 ms.
	Queue Queue `toml:"queue"`
	// Loss is the share of packets that are lost behind the queue, LossBurst how many in a row on average; default 0 and 1.
	Loss      float64 `toml:"loss"`
	LossBurst float64 `toml:"loss_burst"`
	// Jitter is the largest delay that is added at random, without reordering; default 0.
	Jitter Duration `toml:"jitter"`
}

// Subscribers are some alike.
type Subscribers struct {
	// Count is how many; default 1.
	Count int `toml:"count"`
	// Link is the name of the link that they share; default: the first.
	Link string `toml:"link"`
	// Delay is added on their side of the link, one way, each way. SpreadDelay is how much more the last of them has than the first.
	Delay       Duration `toml:"delay"`
	SpreadDelay Duration `toml:"spread_delay"`
	// Priority is the subscriber's priority of the tracks, 0 to 255; default 128.
	Priority *int `toml:"priority"`
	// AudioPriority is that of the audio track; default: Priority.
	AudioPriority *int `toml:"audio_priority"`

	link int
}

// LinkIndex returns which of the scenario's links theirs is.
func (s *Subscribers) LinkIndex() int { return s.link }

// Clients returns how many subscribers there are.
func (s *Scenario) Clients() (n int) {
	for _, g := range s.Subscribers {
		n += g.Count
	}
	return n
}

// The bounds of what is taken.
const (
	minDuration = time.Second
	maxDuration = 10 * time.Minute
	maxClients  = 1000
)
