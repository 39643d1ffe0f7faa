package media

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// CatalogName is the name of the track that the catalog is sent on.
const CatalogName = "catalog"

const (
	catalogVersion = 1
	maxCatalog     = 1 << 20
	maxName        = 64
)

// Catalog describes the tracks of a clip to a subscriber:
//
//	{"version":1,"tracks":[{"name":"video","kind":"video","codec":"avc1.64001E","timescale":12800,"initData":"AAAA…"}]}
type Catalog struct {
	Version int            `json:"version"`
	Tracks  []CatalogTrack `json:"tracks"`
}

// CatalogTrack describes one track.
type CatalogTrack struct {
	Name      string `json:"name"`
	Kind      Kind   `json:"kind"`
	Codec     string `json:"codec"`
	Timescale uint32 `json:"timescale"`
	Width     int    `json:"width,omitempty"`
	Height    int    `json:"height,omitempty"`
	InitData  []byte `json:"initData"` // CMAF initialization segment; base64 in JSON

	source *source
}

// Catalog returns the catalog of the clip as JSON.
func (c *Clip) Catalog() []byte {
	cat := Catalog{Version: catalogVersion}
	for _, t := range c.Tracks {
		cat.Tracks = append(cat.Tracks, CatalogTrack{
			Name: t.Name, Kind: t.Kind, Codec: t.Codec, Timescale: t.Timescale,
			Width: t.Width, Height: t.Height, InitData: t.Init,
		})
	}
	b, err := json.Marshal(cat)
	if err != nil {
		panic("media: strings and numbers that JSON cannot hold: " + err.Error()) // not reachable
	}
	return b
}

// CatalogTrack returns the catalog as a track: the same object at the start of every group, for those who join late.
func (c *Clip) CatalogTrack() *Track {
	t := &Track{Name: CatalogName, Kind: KindCatalog, Codec: "json", Timescale: uint32(time.Second / time.Millisecond)}
	payload := c.Catalog()
	for group, at := range c.Groups {
		t.Objects = append(t.Objects, Object{
			Group: uint64(group), Priority: PriorityCatalog, Time: at, Key: true, Reference: true, Payload: payload,
		})
	}
	return t
}

// ParseCatalog reads and checks a catalog from the network. Fields that it does not know are ignored.
func ParseCatalog(b []byte) (*Catalog, error) {
	if len(b) > maxCatalog {
		return nil, fmt.Errorf("catalog: %d bytes are more than %d", len(b), maxCatalog)
	}
	var c Catalog
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	if c.Version != catalogVersion {
		return nil, fmt.Errorf("catalog: version %d, want %d: use the same release at both ends", c.Version, catalogVersion)
	}
	if len(c.Tracks) == 0 || len(c.Tracks) > maxTracks {
		return nil, fmt.Errorf("catalog: %d tracks, want 1 to %d", len(c.Tracks), maxTracks)
	}
	names := map[string]bool{CatalogName: true}
	for i := range c.Tracks {
		t := &c.Tracks[i]
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("catalog: track %d: %w", i, err)
		}
		if names[t.Name] {
			return nil, fmt.Errorf("catalog: two tracks are named %q", t.Name)
		}
		names[t.Name] = true
	}
	return &c, nil
}

func (t *CatalogTrack) check() error {
	if t.Name == "" || len(t.Name) > maxName || len(t.Codec) > maxName {
		return fmt.Errorf("name and codec must have up to %d bytes, and the name at least one", maxName)
	}
	for _, r := range t.Name {
		if r <= ' ' || r > '~' || r == '/' {
			return fmt.Errorf("the name %q has characters that are not allowed", t.Name)
		}
	}
	if t.Kind != KindVideo && t.Kind != KindAudio {
		return fmt.Errorf("unknown kind %q", t.Kind)
	}
	if t.Width < 0 || t.Height < 0 {
		return errors.New("negative size")
	}
	s, err := readInit(t.InitData)
	if err != nil {
		return fmt.Errorf("initData: %w", err)
	}
	if s.kind != t.Kind || s.timescale != t.Timescale {
		return fmt.Errorf("initData says %s at %d units/s, the catalog %s at %d", s.kind, s.timescale, t.Kind, t.Timescale)
	}
	t.source = s
	return nil
}
