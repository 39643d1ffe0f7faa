package wire

func (f *Frame) parseDatagram(b []byte, n int) (int, error) {
	f.HasLen = f.Type == FrameDatagramLen
	size, n, ok := restOrLen(b, n, f.HasLen)
	if !ok {
		return 0, ErrFrameTruncated
	}
	f.V[0] = size
	return f.parseData(b, n, size)
}

// AppendDatagram appends a DATAGRAM frame (RFC 9221, section 4). Without a length it must be the packet's last frame.
func AppendDatagram(b []byte, data []byte, withLen bool) []byte {
	if withLen {
		b = append(b, byte(FrameDatagramLen))
		b = AppendVarint(b, uint64(len(data)))
	} else {
		b = append(b, byte(FrameDatagram))
	}
	return append(b, data...)
}

// DatagramOverhead returns how many bytes AppendDatagram puts before length bytes of data.
func DatagramOverhead(length int, withLen bool) int {
	if withLen {
		return 1 + VarintLen(uint64(length))
	}
	return 1
}
