package media

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestCatalogRoundtrip(t *testing.T) {
	c := readSample(t)
	cat := parsedCatalog(t, c)
	for i, tr := range c.Tracks {
		got := cat.Tracks[i]
		if got.Name != tr.Name || got.Kind != tr.Kind || got.Codec != tr.Codec || got.Timescale != tr.Timescale ||
			got.Width != tr.Width || got.Height != tr.Height || !bytes.Equal(got.InitData, tr.Init) {
			t.Errorf("%s: %+v", tr.Name, got)
		}
	}
	for _, o := range c.CatalogTrack().Objects {
		if !bytes.Equal(o.Payload, c.Catalog()) || o.Priority != PriorityCatalog || o.ID != 0 {
			t.Fatalf("group %d: %+v", o.Group, o)
		}
	}
}

func TestParseCatalogRefuses(t *testing.T) {
	good := readSample(t).Catalog()
	for _, tt := range []struct {
		name string
		edit func(*Catalog)
		want string
	}{
		{"version", func(c *Catalog) { c.Version = 2 }, "version 2"},
		{"no tracks", func(c *Catalog) { c.Tracks = nil }, "0 tracks"},
		{"many tracks", func(c *Catalog) { c.Tracks = make([]CatalogTrack, maxTracks+1) }, "65 tracks"},
		{"no name", func(c *Catalog) { c.Tracks[0].Name = "" }, "name"},
		{"name with a path", func(c *Catalog) { c.Tracks[0].Name = "../x" }, "not allowed"},
		{"same names", func(c *Catalog) { c.Tracks[1].Name = "video" }, "two tracks"},
		{"reserved name", func(c *Catalog) { c.Tracks[1].Name = CatalogName }, "two tracks"},
		{"kind", func(c *Catalog) { c.Tracks[0].Kind = "smell" }, "kind"},
		{"wrong kind", func(c *Catalog) { c.Tracks[0].Kind = KindAudio }, "initData says"},
		{"timescale", func(c *Catalog) { c.Tracks[0].Timescale = 0 }, "initData says"},
		{"size", func(c *Catalog) { c.Tracks[0].Width = -1 }, "negative"},
		{"no init", func(c *Catalog) { c.Tracks[0].InitData = nil }, "initData"},
		{"garbage init", func(c *Catalog) { c.Tracks[0].InitData = []byte("garbage!garbage!") }, "initData"},
		{"large init", func(c *Catalog) { c.Tracks[0].InitData = make([]byte, maxInit+1) }, "more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c Catalog
			if err := json.Unmarshal(good, &c); err != nil {
				t.Fatal(err)
			}
			tt.edit(&c)
			b, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseCatalog(b); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	for _, b := range [][]byte{nil, []byte("{"), []byte("null"), make([]byte, maxCatalog+1)} {
		if _, err := ParseCatalog(b); err == nil {
			t.Errorf("%.10q is taken", b)
		}
	}
}

func FuzzParseCatalog(f *testing.F) {
	c := readSample(f)
	f.Add(c.Catalog())
	f.Add([]byte(`{"version":1,"tracks":[{"name":"video","kind":"video","initData":"AAAACG1vb3Y="}]}`))
	chunk := c.Tracks[0].Objects[1].Payload
	f.Fuzz(func(t *testing.T, b []byte) {
		cat, err := ParseCatalog(b)
		if err != nil {
			return
		}
		w, err := NewWriter(&bytes.Buffer{}, cat, WriterOptions{})
		if err != nil {
			t.Fatalf("a catalog that was taken makes no Writer: %v", err)
		}
		_ = w.Add(cat.Tracks[0].Name, 0, 0, chunk) // either is right, but no panic
		_ = w.Close()
	})
}

func FuzzWriterAdd(f *testing.F) {
	c := readSample(f)
	cat := parsedCatalog(f, c)
	f.Add(c.Tracks[1].Objects[0].Payload)
	f.Fuzz(func(t *testing.T, payload []byte) {
		w, err := NewWriter(&bytes.Buffer{}, cat, WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Add("video", 0, 0, payload)
		_ = w.Add("audio", 0, 0, payload)
		if err := w.Close(); err != nil {
			t.Fatalf("a bad object spoils the file: %v", err)
		}
	})
}
