package command

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fastrelay/fastrelay/internal/media"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"fastrelay": func() { os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr)) }})
}

// TestScripts runs the command as a user does.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"whole":     checkWhole,
			"repaired":  checkRepaired,
			"chain":     checkChain,
			"accounted": checkAccounted,
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "kernel":
				return os.Getenv("FASTRELAY_KERNEL_TESTS") == "1", nil
			}
			return false, errors.New("unknown condition")
		},
	})
}

// leftNamespaces returns the network namespaces of demos that have ended; others run at the same time.
func leftNamespaces() (left []string) {
	all, _ := filepath.Glob("/run/netns/fastrelay-*")
	for _, path := range all {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), "fastrelay-"), "-")
		if _, err := os.Stat("/proc/" + pid); err != nil {
			left = append(left, path)
		}
	}
	return left
}

// checkWhole reads a report of demo --json: whole FILE DATAPATH.
func checkWhole(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: whole FILE DATAPATH")
	}
	var r demoReport
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &r))
	if !r.OK || r.ObjectsExpected == 0 || r.ObjectsDelivered != r.ObjectsExpected || r.ObjectsCorrupt+r.ObjectsMissing+r.ObjectsReset > 0 {
		ts.Fatalf("not everything arrived: %s", ts.ReadFile(args[0]))
	}
	if r.Datapath != args[1] {
		ts.Fatalf("datapath is %s, want %s", r.Datapath, args[1])
	}
	// 0.99 and more on an idle machine. This is real time, and the tests share the machine: what waits too long for its turn goes
	// the slow path. How large the share has to be is asserted in virtual time, by endpoint.TestThroughRelay.
	if r.ForwardedShare < 0.5 || r.PacketsForwarded == 0 {
		ts.Fatalf("the datapath sent %.3f of the bytes: %v", r.ForwardedShare, r.Reasons)
	}
	if r.RelayDelay.Fast.N == 0 || r.RelayDelay.Slow.N == 0 || r.RelayDelay.Fast.P50 > r.RelayDelay.Fast.Max {
		ts.Fatalf("delays: %+v", r.RelayDelay)
	}
	if left := leftNamespaces(); len(left) > 0 && args[1] == datapathEBPF {
		ts.Fatalf("namespaces are left: %v", left)
	}
}

// checkRepaired reads a report of demo --json with losses: repaired FILE. How soon repairs start depends on the machine here;
// relay.TestRepairsInTheLongRun asserts it in virtual time.
func checkRepaired(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: repaired FILE")
	}
	var r demoReport
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &r))
	d := r.RepairDelay
	if r.PacketsLost == 0 || r.Repairs == 0 || d.N == 0 {
		ts.Fatalf("%d packets lost, %d of repairs, %d repairs of lost ones", r.PacketsLost, r.Repairs, d.N)
	}
	if d.P50 == 0 || d.P50 > d.P90 || d.P90 > d.P99 || d.P99 > d.P999 || d.P999 > d.Max || uint64(2*r.PathDelay) > d.Max {
		ts.Fatalf("delays of repairs: %+v", d)
	}
	if r.RepairsWithinRTT < 0 || r.RepairsWithinRTT > 1 {
		ts.Fatalf("a share of %v repairs is within 1.5 RTT", r.RepairsWithinRTT)
	}
}

// checkChain reads a report of demo --json with relays in a row: chain FILE HOPS. How much of it has to be fast on an idle machine is asserted
// in virtual time, by relay.TestRelaysInARow.
func checkChain(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: chain FILE HOPS")
	}
	var r demoReport
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &r))
	hops, err := strconv.Atoi(args[1])
	ts.Check(err)
	if r.Hops != hops || len(r.Runs) < 2 {
		ts.Fatalf("%d relays in %d runs, want %d", r.Hops, len(r.Runs), hops)
	}
	for i := range r.Runs {
		run := &r.Runs[i]
		if len(run.Relays) != hops {
			ts.Fatalf("run %s tells of %d relays, want %d", run.Mode, len(run.Relays), hops)
		}
		for j := range run.Relays {
			hop := &run.Relays[j]
			if fast := run.Datapath != datapathNone; fast != (hop.PacketsForwarded > 0) || fast && hop.ForwardedShare < 0.5 || hop.ForwardedShare > 1 {
				ts.Fatalf("run %s, relay %d: %+v", run.Mode, j+1, hop)
			}
		}
	}
}

// checkAccounted reads a report of demo --json with a bottleneck: accounted FILE. The first run is that of a heuristic which is to keep audio.
func checkAccounted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: accounted FILE")
	}
	var r demoReport
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &r))
	if !r.OK || len(r.Runs) != 2 || r.Runs[0].Mode != "fast" || r.Runs[1].Mode != tailDrop && r.Runs[1].Heuristic != tailDrop {
		ts.Fatalf("report: %s", ts.ReadFile(args[0]))
	}
	if r.ObjectsDuplicate+r.ObjectsUnexpected > 0 {
		ts.Fatalf("%d objects came twice, %d were not expected", r.ObjectsDuplicate, r.ObjectsUnexpected)
	}
	for i := range r.Runs {
		run := &r.Runs[i]
		dropped := uint64(0)
		for j := range run.Media {
			l, m := &run.Media[j].Layer, &run.Media[j].Relay
			if ended := m.Delivered + sum(m.Dropped) + sum(m.Reset) + m.Open; m.Published != ended || m.Published != uint64(l.Expected) {
				ts.Fatalf("run %s, priority %d: of %d objects %d were published to the subscriber, and ended %d: %+v", run.Mode, l.Priority, l.Expected, m.Published, ended, *m)
			}
			// What arrived last may not have been acknowledged when the subscriber went, but not the other way round.
			if m.Delivered > uint64(l.Delivered) {
				ts.Fatalf("run %s, priority %d: %d objects arrived, and the relay takes %d for delivered", run.Mode, l.Priority, l.Delivered, m.Delivered)
			}
			for _, ended := range []map[string]uint64{m.Dropped, m.Reset} {
				for why, n := range ended {
					if strings.HasPrefix(why, "drop_") {
						dropped += n
					}
				}
			}
			if l.Priority == media.PriorityAudio && i == 0 && 100*l.Delivered < 99*l.Expected {
				ts.Fatalf("of %d audio frames %d arrived: %+v", l.Expected, l.Delivered, *m)
			}
		}
		if dropped == 0 || run.ObjectsCorrupt > 0 {
			ts.Fatalf("run %s: %d streams dropped, %d objects corrupt", run.Mode, dropped, run.ObjectsCorrupt)
		}
	}
}

// TestTwoRelays runs two relays in a row as processes, each with a simulated datapath, and sends the clip through both.
func TestTwoRelays(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "fastrelay")
	if out, err := exec.Command("go", "build", "-o", bin, "../cmd/fastrelay").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	start := func(args ...string) *child {
		c, err := startChild(t.Context(), here{dir}, bin, args...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.kill)
		return c
	}
	relay := func(cert string, args ...string) (*child, string) {
		c := start(append([]string{"relay", "--json", "--listen", "127.0.0.1:0", "--datapath=sim", "--write-cert", cert}, args...)...)
		line, err := c.next(t.Context())
		var e relayEvent
		if err != nil || json.Unmarshal(line, &e) != nil || e.Address == "" {
			t.Fatalf("relay said %s: %v", line, err)
		}
		return c, e.Address
	}
	top, topAddr := relay("top.pem")
	edge, edgeAddr := relay("edge.pem", "--upstream", topAddr, "--upstream-ca", "top.pem")
	publisher := start("--json", "publish", "--relay", topAddr, "--ca", "top.pem", "--duration", "2s")
	if err := publisher.await(t.Context(), "announced"); err != nil {
		t.Fatal(err)
	}
	subscribe := exec.CommandContext(t.Context(), bin, "subscribe", "--relay", edgeAddr, "--ca", "edge.pem", "--out", "received.mp4")
	subscribe.Dir = dir
	if out, err := subscribe.CombinedOutput(); err != nil {
		t.Fatalf("subscribe: %v\n%s", err, out)
	}
	if report, err := media.Verify(filepath.Join(dir, "received.mp4")); err != nil {
		t.Error(err)
	} else {
		t.Logf("%+v", report)
	}
	for name, c := range map[string]*child{"top": top, "edge": edge} {
		var last relayEvent
		if err := c.stop(t.Context(), &last); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// Of about 146 streams. This is real time on a machine that is shared: relay.TestRelaysInARow asserts in virtual time how many
		// have to be fast.
		if b := last.Stats.Boundary; b.FastStreams < 50 || b.ForwardedBytes == 0 {
			t.Errorf("%s relay: %+v", name, last.Stats)
		}
		if up := last.Stats.Upstream; name == "edge" && (up == nil || up.Connections != 1) {
			t.Errorf("upstream: %+v", up)
		}
	}
}

// here starts commands in a directory.
type here struct{ dir string }

func (h here) Start(c *exec.Cmd) error {
	c.Dir = h.dir
	return c.Start()
}

// TestThreeProcesses runs relay, publisher and subscriber as README shows them, and an unknown namespace.
func TestThreeProcesses(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "fastrelay")
	if out, err := exec.Command("go", "build", "-o", bin, "../cmd/fastrelay").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	command := func(args ...string) *exec.Cmd {
		c := exec.CommandContext(t.Context(), bin, args...)
		c.Dir = dir
		return c
	}
	relay := command("relay", "--listen", "127.0.0.1:0", "--datapath=sim", "--write-cert", "relay.pem", "--json")
	events, err := relay.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := relay.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(events)
	line, err := r.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var listening relayEvent
	if err := json.Unmarshal(line, &listening); err != nil || listening.Address == "" {
		t.Fatalf("relay said %s: %v", line, err)
	}

	out, err := command("subscribe", "--relay", listening.Address, "--ca", "relay.pem", "--namespace", "nothere").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !bytes.Contains(out, []byte("knows no track nothere")) {
		t.Errorf("unknown namespace: %v\n%s", err, out)
	}

	publisher := command("publish", "--relay", listening.Address, "--ca", "relay.pem", "--duration", "2s")
	announced, err := publisher.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := publisher.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(announced)
	if line, err := said.ReadString('\n'); err != nil { // it is announced
		t.Fatalf("publisher said %q: %v", line, err)
	}
	if out, err := command("subscribe", "--relay", listening.Address, "--ca", "relay.pem", "--out", "received.mp4").CombinedOutput(); err != nil {
		t.Fatalf("subscribe: %v\n%s", err, out)
	}
	if _, err := said.WriteTo(&bytes.Buffer{}); err != nil {
		t.Error(err)
	}
	if err := publisher.Wait(); err != nil {
		t.Errorf("publish: %v", err)
	}
	report, err := media.Verify(filepath.Join(dir, "received.mp4"))
	if err != nil {
		t.Error(err)
	}
	t.Logf("%+v", report)
	if err := relay.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var last relayEvent
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			break
		}
		if err := json.Unmarshal(line, &last); err != nil {
			t.Errorf("relay said %s: %v", line, err)
		}
	}
	if err := relay.Wait(); err != nil {
		t.Errorf("relay: %v", err)
	}
	if last.Stats == nil || last.Stats.Boundary.ForwardedPackets == 0 {
		t.Errorf("the relay's last word: %+v", last)
	}
}
