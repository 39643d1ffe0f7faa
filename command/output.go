package command

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// event prints one line of JSON.
func (a *app) event(e any) {
	b, err := json.Marshal(e)
	if err != nil {
		a.log.Error("cannot print an event", "err", err)
		return
	}
	fmt.Fprintf(a.out, "%s\n", b)
}

// meter shows progress on a terminal, and nothing elsewhere.
type meter struct {
	mu    sync.Mutex
	bar   *progressbar.ProgressBar
	total int
}

func (a *app) progress(what string) *meter {
	if !a.tty || a.quiet {
		return &meter{}
	}
	return &meter{bar: progressbar.NewOptions(-1,
		progressbar.OptionSetWriter(a.err),
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWidth(30),
		progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)}
}

// set shows n of total; total is 0 if it is not known.
func (m *meter) set(n, total int) {
	if m.bar == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if total > 0 && total != m.total {
		m.total = total
		m.bar.ChangeMax(total)
	}
	_ = m.bar.Set(n) // an error of drawing is no error of the command
}

func (m *meter) finish() {
	if m.bar == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.bar.Finish() // as above
}

// describeReasons lists counts by name.
func describeReasons(m map[string]uint64) string {
	if len(m) == 0 {
		return "no reasons counted"
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s %d", name, m[name]))
	}
	return strings.Join(out, ", ")
}
