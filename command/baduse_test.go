package command

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadUse: what cannot be done is refused before anything is begun, with one line that says what to do, and with 2 where the
// command line is at fault and 1 where the world is.
func TestBadUse(t *testing.T) {
	dir := t.TempDir()
	missing, text, cut := filepath.Join(dir, "missing"), filepath.Join(dir, "text"), filepath.Join(dir, "cut")
	if err := os.WriteFile(text, []byte("not what is expected\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cut, []byte(`{"policy":`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args string
		exit int
		want string
	}{
		{"relay --listen nowhere", exitUsage, "--listen nowhere: give a host and a port, as in 127.0.0.1:4433"},
		{"relay --packet-size 100", exitUsage, "--packet-size must be 1200 to 1452, not 100"},
		{"relay --cache-size=-1", exitUsage, "--cache-size must be 0 to 1048576, not -1"},
		{"relay --cache-size=99999999999999", exitUsage, "--cache-size must be 0 to"},
		{"relay --cache-age=0s", exitUsage, "--cache-age must be more than 0"},
		{"relay --stats-interval=-1s", exitUsage, "--stats-interval must not be negative"},
		{"relay --heuristic best", exitUsage, `there is no heuristic "best"; there are age, `},
		{"relay --datapath=sim --interface lo", exitUsage, "--interface is for --datapath=ebpf, not sim"},
		{"relay --listen 127.0.0.1:0 --heuristic live", exitFailed, "--heuristic needs a datapath, and there is none ("},
		{"relay --listen 127.0.0.1:0 --datapath=none --heuristic live", exitFailed, "--heuristic needs a datapath: use --datapath=sim or ebpf"},
		{"relay --listen 127.0.0.1:0 --datapath=none --record " + missing, exitFailed, "--record needs a datapath: use --datapath=sim or ebpf"},
		{"relay --listen 127.0.0.1:0 --datapath=sim --upstream nowhere --record " + missing, exitFailed, "--upstream nowhere: give a host and a port"},
		{"publish --relay nowhere", exitUsage, "--relay nowhere: give a host and a port, as in 127.0.0.1:4433"},
		{"publish --namespace=", exitUsage, `--namespace "" has an empty part`},
		{"publish --namespace=a//b", exitUsage, `--namespace "a//b" has an empty part`},
		{"publish --start-delay=-1s", exitUsage, "must not be negative"},
		{"publish --duration=-1s", exitUsage, "must not be negative"},
		{"publish --insecure " + missing, exitFailed, "no such file or directory; give an MP4 file, or sample"},
		{"publish --insecure " + dir, exitFailed, "is a directory; give an .mp4 file"},
		{"publish --ca " + text, exitFailed, "the CA file holds no PEM certificate; fastrelay relay --write-cert"},
		{"publish --fingerprint 00", exitFailed, "is not a SHA-256 in hexadecimal; the relay prints its own"},
		{"subscribe --namespace=a/", exitUsage, `--namespace "a/" has an empty part`},
		{"subscribe --timeout 0s", exitUsage, "--timeout must be more than 0"},
		{"subscribe --duration=-1s", exitUsage, "--duration must not be negative"},
		{"demo --hops 0", exitUsage, "--hops must be 1 to 8, not 0"},
		{"demo --rate fast", exitUsage, "give a number and kbit, Mbit or Gbit"},
		{"demo --datapath=none --record " + missing, exitUsage, "--record need a datapath"},
		{"study --seeds 0", exitUsage, "--seeds must be 1 to 10000, not 0"},
		{"study --jobs=-1", exitUsage, "--jobs must be 0 to 1024, not -1"},
		{"study --congestion vegas", exitUsage, `--congestion: no congestion control is named "vegas"`},
		{"study --heuristic best", exitUsage, `--heuristic: there is no heuristic "best"; there are all, `},
		{"replay " + missing, exitFailed, "no such file or directory; give a file that relay or demo wrote with --record"},
		{"replay " + text, exitFailed, "line 1: not an event of a recording"},
		{"replay " + cut, exitFailed, "no event of a recording is in it"},
	} {
		var out, errs bytes.Buffer
		exit := Main(strings.Fields(tc.args), &out, &errs)
		said := errs.String()
		if exit != tc.exit || strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "fastrelay: ") || !strings.Contains(said, tc.want) || out.Len() > 0 {
			t.Errorf("%s: exit %d, want %d; it says\n\t%s%swant\n\t%s", tc.args, exit, tc.exit, &out, said, tc.want)
		}
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("a recording was begun that cannot be made")
	}
}
