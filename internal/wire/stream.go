package wire

// Flag bits of STREAM frame types (RFC 9000, section 19.8).
const (
	streamFin = 0x01
	streamLen = 0x02
	streamOff = 0x04
)

// MaxStreamOffset is the largest offset of the end of a stream's data (RFC 9000, section 19.8).
const MaxStreamOffset = MaxVarint

func (f *Frame) parseStream(b []byte, n int) (int, error) {
	n, err := f.parseInts(b, n, 1)
	if err != nil {
		return 0, err
	}
	if f.Type&streamOff != 0 {
		v, l := ReadVarint(b[n:])
		if l == 0 {
			return 0, ErrFrameTruncated
		}
		f.Offset = v
		n += l
	}
	size, n, ok := restOrLen(b, n, f.Type&streamLen != 0)
	if !ok {
		return 0, ErrFrameTruncated
	}
	if size > MaxStreamOffset-f.Offset {
		return 0, ErrStreamOffset
	}
	f.V[1], f.V[2] = f.Offset, size
	f.HasLen = f.Type&streamLen != 0
	f.Fin = f.Type&streamFin != 0
	return f.parseData(b, n, size)
}

// restOrLen reads a data length at b[n:], or takes what is left of b if the frame has no length field.
func restOrLen(b []byte, n int, hasLen bool) (size uint64, next int, ok bool) {
	if !hasLen {
		return uint64(len(b) - n), n, true
	}
	size, l := ReadVarint(b[n:])
	return size, n + l, l != 0
}

// AppendStream appends a STREAM frame (RFC 9000, section 19.8). Without a length it must be the packet's last frame.
// Offset 0 is left out.
func AppendStream(b []byte, id, offset uint64, data []byte, fin, withLen bool) []byte {
	t := FrameStream
	if fin {
		t |= streamFin
	}
	if withLen {
		t |= streamLen
	}
	if offset != 0 {
		t |= streamOff
	}
	b = append(b, byte(t))
	b = AppendVarint(b, id)
	if offset != 0 {
		b = AppendVarint(b, offset)
	}
	if withLen {
		b = AppendVarint(b, uint64(len(data)))
	}
	return append(b, data...)
}

// StreamOverhead returns how many bytes AppendStream puts before length bytes of data.
func StreamOverhead(id, offset uint64, length int, withLen bool) int {
	n := 1 + VarintLen(id)
	if offset != 0 {
		n += VarintLen(offset)
	}
	if withLen {
		n += VarintLen(uint64(length))
	}
	return n
}
