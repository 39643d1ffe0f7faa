package replay

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/fastrelay/fastrelay/datapath"
)

// Event is a line of a file. One of its fields is set.
type Event struct {
	Policy *Policy          `json:"policy,omitempty"`
	Record *datapath.Record `json:"record,omitempty"`
}

// Policy is a policy that a client was given.
type Policy struct {
	Client     datapath.ClientID `json:"client"`
	Generation uint8             `json:"generation"` // of the client, as in records
	Version    uint32            `json:"version"`
	Policy     datapath.Policy   `json:"policy"`
}

// Writer writes events. It is safe for use by several goroutines.
type Writer struct {
	mu  sync.Mutex
	w   *bufio.Writer
	c   io.Closer
	err error
}

// NewWriter returns a Writer that closes w.
func NewWriter(w io.WriteCloser) *Writer { return &Writer{w: bufio.NewWriterSize(w, 1<<16), c: w} }

// Policy writes a policy.
func (w *Writer) Policy(p Policy) { w.write(&Event{Policy: &p}) }

// Record writes a record, if it has frames. It does not keep it.
func (w *Writer) Record(r *datapath.Record) {
	if len(r.Frames) > 0 {
		w.write(&Event{Record: r})
	}
}

func (w *Writer) write(e *Event) {
	b, err := json.Marshal(e)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err = errors.Join(w.err, err); w.err != nil {
		return
	}
	if _, err := w.w.Write(append(b, '\n')); err != nil {
		w.err = err
	}
}

// Close writes what is left, and returns the first error.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.err, w.w.Flush(), w.c.Close())
}

// Read calls f for each event, which is valid during the call. Errors name the line. A last line that is not whole, as of a writer that was
// killed, is left out, and whole is false.
func Read(r io.Reader, f func(*Event) error) (whole bool, err error) {
	lines := bufio.NewReaderSize(r, 1<<16)
	for n := 1; ; n++ {
		line, readErr := lines.ReadBytes('\n')
		if readErr != nil && !errors.Is(readErr, io.EOF) {
			return false, fmt.Errorf("line %d: %w", n, readErr)
		}
		if readErr != nil && n == 1 && len(line) > 0 {
			return false, errors.New("no event of a recording is in it")
		}
		if readErr != nil {
			return len(line) == 0, nil
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return false, fmt.Errorf("line %d: not an event of a recording: %w", n, err)
		}
		if (e.Policy == nil) == (e.Record == nil) {
			return false, fmt.Errorf("line %d: an event has a policy or a record", n)
		}
		if err := f(&e); err != nil {
			return false, fmt.Errorf("line %d: %w", n, err)
		}
	}
}
