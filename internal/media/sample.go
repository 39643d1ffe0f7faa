package media

import (
	"bytes"
	_ "embed"
	"fmt"
)

//go:embed sample/sample.mp4
var sampleFile []byte

// Sample returns the clip that comes with the project: ten seconds of test pictures and sound, made by sample/make.sh.
func Sample() (*Clip, error) {
	c, err := Read(bytes.NewReader(sampleFile))
	if err != nil {
		return nil, fmt.Errorf("the built-in sample: %w", err)
	}
	return c, nil
}
