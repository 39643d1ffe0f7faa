package sample_test

import (
	"testing"

	"github.com/fastrelay/fastrelay/internal/media/sample"
)

func TestSample(t *testing.T) {
	if n := len(sample.Bytes()); n == 0 || n > 1_000_000 {
		t.Errorf("%d bytes, want up to 1 MB", n)
	}
	c, err := sample.Open()
	if err != nil {
		t.Fatal(err)
	}
	frames := map[bool]int{}
	for _, o := range c.Track("video").Objects {
		frames[o.Reference]++
		if o.Key && len(o.Payload) < 3000 {
			t.Errorf("the key frame of group %d has %d bytes and fits in two packets", o.Group, len(o.Payload))
		}
	}
	if frames[false] == 0 || frames[true] == 0 {
		t.Errorf("reference frames: %v", frames)
	}
}
