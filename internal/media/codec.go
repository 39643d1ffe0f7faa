package media

import (
	"fmt"
	"math/bits"

	"github.com/Eyevinn/mp4ff/mp4"
)

// nalKind says how frame types are found in the bitstream.
type nalKind int

const (
	nalNone nalKind = iota // not at all: the container's word is taken
	nalAVC
	nalHEVC
)

// codecOf returns the RFC 6381 name of a track's first sample entry, as far as its configuration tells.
func codecOf(stsd *mp4.StsdBox) (string, nalKind) {
	name := stsd.Children[0].Type()
	switch {
	case stsd.AvcX != nil:
		if c := stsd.AvcX.AvcC; c != nil {
			return fmt.Sprintf("%s.%02X%02X%02X", name, c.AVCProfileIndication, c.ProfileCompatibility, c.AVCLevelIndication), nalAVC
		}
	case stsd.HvcX != nil:
		if c := stsd.HvcX.HvcC; c != nil {
			tier := "L"
			if c.GeneralTierFlag {
				tier = "H"
			}
			return fmt.Sprintf("%s.%d.%X.%s%d", name, c.GeneralProfileIDC,
				bits.Reverse32(c.GeneralProfileCompatibilityFlags), tier, c.GeneralLevelIDC), nalHEVC
		}
	case stsd.Mp4a != nil && stsd.Mp4a.Esds != nil && stsd.Mp4a.Esds.DecConfigDescriptor != nil:
		d := stsd.Mp4a.Esds.DecConfigDescriptor
		if d.ObjectType == 0x40 && d.DecSpecificInfo != nil && len(d.DecSpecificInfo.DecConfig) > 0 {
			return fmt.Sprintf("mp4a.40.%d", d.DecSpecificInfo.DecConfig[0]>>3), nalNone // ISO/IEC 14496-3, 1.6.2.1
		}
		return fmt.Sprintf("mp4a.%02X", d.ObjectType), nalNone
	}
	return name, nalNone
}
