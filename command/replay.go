package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/replay"
	"github.com/fastrelay/fastrelay/relay"
)

type replayCmd struct {
	File string `arg:"" help:"File that relay or demo wrote with --record."`
}

// Help is shown by --help.
func (*replayCmd) Help() string {
	return `Takes the decisions of a recording again, in the simulator: for each frame that a policy admitted or dropped, by the policy, the
time and the plan that the datapath had. It fails if one differs.

  sudo fastrelay demo --datapath=ebpf -n 1 --rate 400kbit --record decisions.jsonl
  fastrelay replay decisions.jsonl`
}

func (c *replayCmd) Run(_ context.Context, a *app) (err error) {
	f, err := os.Open(c.File)
	if err != nil {
		return fmt.Errorf("the recording cannot be read: %w; give a file that relay or demo wrote with --record", err)
	}
	defer closing(f, &err)
	r, err := replay.Run(f)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	if a.json {
		a.event(r)
	} else {
		w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "policies\t%d\nrecords\t%d\ndecisions\t%d\ndropped\t%s\ndiffer\t%d\n", r.Policies, r.Records, r.Decisions, describeReasons(r.Dropped), r.Differ)
		if r.Unknown > 0 {
			fmt.Fprintf(w, "by a policy that is not in the file\t%d\n", r.Unknown)
		}
		_ = w.Flush() // an error of standard output has no other place to go
		for _, e := range r.Examples {
			fmt.Fprintln(a.out, e)
		}
	}
	if r.Cut {
		a.say("the recording breaks off in its last line, which was left out; all before it was replayed")
	}
	if r.Decisions == 0 {
		a.say("no policy decided anything in it: record with --heuristic, or demo with --rate")
	}
	if r.Differ > 0 {
		return fmt.Errorf("%d of %d decisions differ from the simulator's", r.Differ, r.Decisions)
	}
	return nil
}

// record has policies and records written to a file; an empty name is none. why says why there is no datapath, if that was not asked for.
func record(cfg *relay.Config, name, why string) (io.Closer, error) {
	if name == "" {
		return nopCloser{}, nil
	}
	if cfg.Datapath == nil {
		return nil, needsDatapath("--record", why)
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("--record: %w", err)
	}
	w := replay.NewWriter(f)
	cfg.OnRecord = w.Record
	cfg.OnPolicy = func(client datapath.ClientID, generation uint8, version uint32, p datapath.Policy) {
		w.Policy(replay.Policy{Client: client, Generation: generation, Version: version, Policy: p})
	}
	return w, nil
}
