package media

import (
	"encoding/binary"
	"fmt"

	"github.com/Eyevinn/mp4ff/bits"
	"github.com/Eyevinn/mp4ff/mp4"
)

// box is one ISO BMFF box (ISO/IEC 14496-12, section 4.2) within a file.
type box struct {
	kind   string
	pos    int    // of the header, in the file
	raw    []byte // header and payload
	header int    // length of the header
}

func (b box) payload() []byte { return b.raw[b.header:] }

// nextBox reads the box at the start of data, which is at pos in the file.
func nextBox(data []byte, pos int) (box, error) {
	if len(data) < 8 {
		return box{}, fmt.Errorf("%d stray bytes at byte %d", len(data), pos)
	}
	size, header := uint64(binary.BigEndian.Uint32(data)), 8
	kind := string(data[4:8])
	switch size {
	case 0: // up to the end
		size = uint64(len(data))
	case 1:
		if len(data) < 16 {
			return box{}, fmt.Errorf("box at byte %d is cut short", pos)
		}
		size, header = binary.BigEndian.Uint64(data[8:]), 16
	}
	if size < uint64(header) {
		return box{}, fmt.Errorf("box at byte %d has an impossible size", pos)
	}
	if size > uint64(len(data)) {
		return box{}, fmt.Errorf("box %q at byte %d needs %d bytes and only %d are left: the file is cut short", kind, pos, size, len(data))
	}
	return box{kind: kind, pos: pos, raw: data[:size:size], header: header}, nil
}

// boxes splits data, which starts at pos in the file, into boxes.
func boxes(data []byte, pos int) ([]box, error) {
	var out []box
	for len(data) > 0 {
		b, err := nextBox(data, pos)
		if err != nil {
			return out, err
		}
		out = append(out, b)
		data, pos = data[len(b.raw):], pos+len(b.raw)
	}
	return out, nil
}

// decode hands one box to mp4ff. It may panic on malformed input; callers sit below a [guard].
func decode[T mp4.Box](b box) (T, error) {
	var none T
	if b.header != 8 || len(b.raw) > maxMetadata {
		return none, fmt.Errorf("box %q at byte %d is larger than %d MiB", b.kind, b.pos, maxMetadata>>20)
	}
	raw := b.raw
	if binary.BigEndian.Uint32(raw) == 0 { // "up to the end", which mp4ff does not take
		raw = append([]byte(nil), raw...)
		binary.BigEndian.PutUint32(raw, uint32(len(raw)))
	}
	d, err := mp4.DecodeBoxSR(uint64(b.pos), bits.NewFixedSliceReader(raw))
	if err != nil {
		return none, fmt.Errorf("%w; write it again, for example with ffmpeg -i INPUT -c copy out.mp4", err)
	}
	v, ok := d.(T)
	if !ok {
		return none, fmt.Errorf("box %q at byte %d is not what it should be", b.kind, b.pos)
	}
	return v, nil
}

// guard turns a panic of mp4ff, which trusts its input in places, into an error. Use: defer guard(&err).
func guard(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("malformed box: %v", r)
	}
}
