package media

import "encoding/binary"

// classify finds the frames that nothing refers to. It trusts the bitstream where it can be read, as few muxers mark them.
func (s *source) classify() {
	if s.nal == nalNone {
		return
	}
	layers := make([]int, len(s.samples)) // temporal layer of a frame that its own layer does not refer to; else -1
	top := 0
	for i, sm := range s.samples {
		header, ok := firstSlice(sm.data, s.nal)
		layer := 0
		layers[i] = -1
		if !ok {
			continue
		}
		if s.nal == nalAVC { // Rec. ITU-T H.264, 7.4.1: nal_ref_idc
			if header>>8>>5&3 == 0 {
				layers[i] = 0
			}
			continue
		}
		layer = int(header&7) - 1 // Rec. ITU-T H.265, 7.4.2.2: nuh_temporal_id_plus1
		top = max(top, layer)
		if kind := header >> 9 & 63; kind < 16 && kind%2 == 0 { // TRAIL_N, TSA_N … RSV_VCL_N14
			layers[i] = layer
		}
	}
	// A frame that its own temporal layer does not need may be needed by a higher one.
	for i := range s.samples {
		s.samples[i].disposable = layers[i] == top && !s.samples[i].sync
	}
}

// firstSlice returns the first two bytes of the first NAL unit with picture data in a sample of 4-byte length-prefixed units.
func firstSlice(data []byte, k nalKind) (header uint16, ok bool) {
	for len(data) > 6 {
		n := uint64(binary.BigEndian.Uint32(data))
		data = data[4:]
		if n > uint64(len(data)) {
			return 0, false
		}
		if n >= 2 {
			header = binary.BigEndian.Uint16(data)
			if kind := header >> 8 & 31; k == nalAVC && kind >= 1 && kind <= 5 {
				return header, true
			}
			if kind := header >> 9 & 63; k == nalHEVC && kind < 32 {
				return header, true
			}
		}
		data = data[n:]
	}
	return 0, false
}
