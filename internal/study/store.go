package study

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/fastrelay/fastrelay/internal/study/run"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

// store keeps the results of runs in a directory, a file each.
type store struct {
	dir     string // of the study
	program string // hash of what is running: another program may give other results
	mu      sync.Mutex
	hashes  map[*scenario.Scenario]string
}

// kept is the file of a run.
type kept struct {
	Config string      `json:"config"` // hash
	Result *run.Result `json:"result"`
}

func openStore(dir string) (*store, error) {
	program, err := programHash()
	if err != nil {
		return nil, fmt.Errorf("the program's own file: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "runs"), 0o755); err != nil {
		return nil, err
	}
	return &store{dir: dir, program: program, hashes: map[*scenario.Scenario]string{}}, nil
}

// programHash is that of the executable, worked out once.
var programHash = sync.OnceValues(func() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
})

// hash returns what stands for all that a run's result depends on.
func (s *store) hash(c *run.Config) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of, ok := s.hashes[c.Scenario]
	if !ok {
		h := sha256.New()
		if err := json.NewEncoder(h).Encode(c.Scenario); err != nil { // with the media of a file
			return "", err
		}
		of = hex.EncodeToString(h.Sum(nil))
		s.hashes[c.Scenario] = of
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%s\n%d", s.program, of, c.Heuristic, c.Congestion, c.Seed))
	return hex.EncodeToString(sum[:]), nil
}

// Base returns the path of a run's files within a study's directory, without extension.
func Base(scenario, congestion, heuristic string, seed uint64) string {
	return filepath.Join("runs", fmt.Sprintf("%s.%s.%s.%d", scenario, congestion, heuristic, seed))
}

// run does a job, unless its result is there.
func (s *store) run(j *job) (result *run.Result, reused bool, err error) {
	c := j.config
	hash, err := s.hash(&c)
	if err != nil {
		return nil, false, err
	}
	base := filepath.Join(s.dir, Base(c.Scenario.Name, c.Congestion, c.Heuristic, c.Seed))
	if b, err := os.ReadFile(base + ".json"); err == nil {
		var k kept
		if json.Unmarshal(b, &k) == nil && k.Config == hash && k.Result != nil && (!j.traced || exist(base+".pcap", base+".qlog")) {
			return k.Result, true, nil
		}
	}
	if j.traced {
		// Traces that an interrupt leaves half are not to be taken for those of a result that was there without.
		if err := os.Remove(base + ".json"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, false, err
		}
		result, err = traced(c, base)
	} else {
		result, err = run.Run(c)
	}
	if err != nil {
		return nil, false, fmt.Errorf("%s with %s and %s, seed %d: %w", c.Scenario.Name, c.Heuristic, c.Congestion, c.Seed, err)
	}
	b, err := json.Marshal(kept{hash, result})
	if err != nil {
		return nil, false, err
	}
	return result, false, writeFile(base+".json", b)
}

func exist(paths ...string) bool {
	for _, p := range paths {
		if _, err := os.Stat(p); err != nil {
			return false
		}
	}
	return true
}

// writeFile writes a file whole or not at all.
func writeFile(path string, b []byte) error {
	if err := os.WriteFile(path+".part", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

// traced runs with traces beside the result.
func traced(c run.Config, base string) (result *run.Result, err error) {
	pcap, err := os.Create(base + ".pcap")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, pcap.Close()) }()
	qlog, err := os.Create(base + ".qlog")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, qlog.Close()) }()
	title := fmt.Sprintf("%s, %s, %s, seed %d", c.Scenario.Name, c.Heuristic, c.Congestion, c.Seed)
	if c.Trace, err = run.NewTrace(pcap, qlog, title); err != nil {
		return nil, err
	}
	if result, err = run.Run(c); err != nil {
		return nil, err
	}
	return result, c.Trace.Close()
}
