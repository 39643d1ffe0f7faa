//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fastrelay/fastrelay/datapath"
)

// spaces is the mapped memory of all clients. It stays mapped as long as a Space is reachable, also after Close: a
// connection goes on to take its packet numbers from it.
type spaces struct {
	*mapping
	words []uint64
	clock *clock
}

// mapping counts who needs the memory: the datapath and every Space that it handed out.
type mapping struct {
	mu    sync.Mutex
	b     []byte
	users int
}

func (s *spaces) init(b []byte, c *clock) {
	s.clock = c
	s.mapping = &mapping{b: b, users: 1}
	s.words = unsafe.Slice((*uint64)(unsafe.Pointer(&b[0])), len(b)/8)
}

func (s *spaces) close() {
	if s.mapping != nil {
		s.words = nil
		s.release()
	}
}

// get returns a Space over a client's words.
func (s *spaces) get(id datapath.ClientID) *datapath.Space {
	space := datapath.NewSpace(s.words[int(id)*datapath.SpaceWords:(int(id)+1)*datapath.SpaceWords], s.clock.now)
	s.mu.Lock()
	s.users++
	s.mu.Unlock()
	runtime.AddCleanup(space, (*mapping).release, s.mapping)
	return space
}

func (m *mapping) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users--; m.users == 0 {
		_ = unix.Munmap(m.b)
	}
}
