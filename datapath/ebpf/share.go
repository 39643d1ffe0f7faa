//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"errors"

	"github.com/cilium/ebpf"

	"github.com/fastrelay/fastrelay/datapath"
)

// Places in `rests`, in 64-bit words, see bpf/types.h.
const (
	restWords         = 16
	restStreams       = 0 * restWords
	restClientStreams = 1 * restWords
	restsWords        = 2 * restWords
)

// removeStream deletes an entry of `streams`, which the kernel has counted in, and counts it out; none is no error.
func (d *Datapath) removeStream(k *bpfStreamKey) error {
	own := &d.window(datapath.UpstreamID(k.Upstream))[windowStreams]
	return release(d.objs.Streams, k, d.limits.StreamShare(), own, &d.rests[restStreams])
}

// removeClientStream does so for an entry of `client_streams`.
func (d *Datapath) removeClientStream(k *bpfClientStreamKey) error {
	own := &d.spaces.words[int(k.Client)*datapath.SpaceWords+datapath.WordStreams]
	return release(d.objs.ClientStreams, k, d.limits.ClientStreamShare(), own, &d.rests[restClientStreams])
}

func release(m *ebpf.Map, key any, share datapath.Share, own, rest *uint64) error {
	err := m.Delete(key)
	switch {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return nil
	case err == nil:
		share.Give(own, rest)
	}
	return err
}

func (d *Datapath) sweepStreams(match func(*bpfStreamKey, *bpfStream) bool) error {
	return sweep(d.objs.Streams, match, d.removeStream)
}

func (d *Datapath) sweepClientStreams(match func(*bpfClientStreamKey, *bpfClientStream) bool) error {
	return sweep(d.objs.ClientStreams, match, d.removeClientStream)
}
