package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/fastrelay/fastrelay/internal/lab/capture"
)

// What is put before the extension of --pcap.
const (
	pcapPublisher  = "-publisher"
	pcapSubscriber = "-subscriber"
)

// captured reports whether the packets of a run are to be written to files: those of the first.
func (d *demo) captured(m mode) bool {
	return d.Pcap != "" && (m.name == "fast" || d.Datapath == datapathNone)
}

// pcapFiles returns the files of --pcap.
func (d *demo) pcapFiles(m mode) []string {
	files := []string{withSuffix(d.Pcap, pcapPublisher), withSuffix(d.Pcap, pcapSubscriber)}
	if m.cipher != cipherNull {
		files = append(files, keysFile(d.Pcap))
	}
	return files
}

// withSuffix puts a suffix before a file's extension.
func withSuffix(path, suffix string) string {
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + suffix + ext
}

func keysFile(path string) string { return strings.TrimSuffix(path, filepath.Ext(path)) + ".keys" }

// writePcap writes the packets of a run that were recorded at the sockets.
func (d *demo) writePcap(m mode, t *trial) error {
	if !d.captured(m) {
		return nil
	}
	err := errors.Join(
		writeRecording(withSuffix(d.Pcap, pcapPublisher), t.upstream),
		writeRecording(withSuffix(d.Pcap, pcapSubscriber), t.down),
	)
	if m.cipher != cipherNull {
		err = errors.Join(err, os.WriteFile(keysFile(d.Pcap), t.keylog, 0o600))
	}
	if err != nil {
		return fmt.Errorf("--pcap: %w", err)
	}
	return nil
}

func writeRecording(path string, r *capture.Recording) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer closing(f, &err)
	w := pcapgo.NewWriterNanos(f)
	if err := w.WriteFileHeader(1<<16, layers.LinkTypeEthernet); err != nil {
		return err
	}
	for i := range r.Packets {
		p := &r.Packets[i]
		info := gopacket.CaptureInfo{Timestamp: p.Time, CaptureLength: len(p.Data), Length: p.Length}
		if err := w.WritePacket(info, p.Data); err != nil {
			return err
		}
	}
	return nil
}
