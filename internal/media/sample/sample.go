// Package sample holds the clip that fastrelay publishes when it is given none.
//
//	10 s │ video H.264 640x360, 25 frames/s, a GOP per second, B-frames │ audio AAC mono 48 kHz
//
// make.sh makes it, from ffmpeg's test sources.
package sample

import (
	"bytes"
	_ "embed"
	"slices"

	"github.com/fastrelay/fastrelay/internal/media"
)

//go:embed sample.mp4
var clip []byte

// Bytes returns a copy of the MP4 file.
func Bytes() []byte { return slices.Clone(clip) }

// Open returns the clip cut into objects.
func Open() (*media.Clip, error) { return media.Read(bytes.NewReader(clip)) }
