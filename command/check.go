package command

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"

	"github.com/fastrelay/fastrelay/datapath/ebpf"
)

type checkCmd struct{}

// Help is shown by --help.
func (*checkCmd) Help() string {
	return `Tells whether packets can be forwarded in the kernel here, what is missing if they cannot, and what "fastrelay demo" would
take. It changes nothing, and succeeds in either case.`
}

// checkItem is an ebpf.Item, in the manner of other JSON.
type checkItem struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Advice string `json:"advice"`
}

// checkReport is what check --json prints.
type checkReport struct {
	Version  string      `json:"version"`
	System   string      `json:"system"`
	Kernel   []checkItem `json:"kernel"`
	EBPF     bool        `json:"ebpf"` // can be used, with --cipher=null
	EBPFWhy  string      `json:"ebpf_why,omitempty"`
	Demo     string      `json:"demo"` // datapath that demo takes
	DemoWhy  string      `json:"demo_why,omitempty"`
	Programs []string    `json:"programs"` // of use to demo, that are installed
}

func (*checkCmd) Run(_ context.Context, a *app) error {
	probe := ebpf.Probe()
	r := checkReport{
		Version: version(), System: runtime.GOOS + "/" + runtime.GOARCH, EBPF: true, Kernel: []checkItem{}, Programs: []string{},
	}
	for _, i := range probe {
		r.Kernel = append(r.Kernel, checkItem(i))
	}
	if err := ableEBPF(cipherNull); err != nil {
		r.EBPF, r.EBPFWhy = false, oneLine(err)
	}
	r.Demo, r.DemoWhy = (&demoCmd{Datapath: datapathAuto}).chooseDemo()
	for _, p := range []string{"ffmpeg", "ffprobe"} {
		if _, err := exec.LookPath(p); err == nil {
			r.Programs = append(r.Programs, p)
		}
	}
	if a.json {
		a.event(r)
		return nil
	}
	fmt.Fprintf(a.out, "%s on %s\n\n%v", r.Version, r.System, probe)
	state := func(name string, ok bool, why string) {
		mark := a.paint(green, "yes")
		if !ok {
			mark = a.paint(red, "no ")
		}
		fmt.Fprintf(a.out, "%-6s %s  %s\n", name, mark, why)
	}
	fmt.Fprintln(a.out)
	if r.EBPF {
		r.EBPFWhy = "packets can be forwarded in the kernel; with --cipher=null as of now"
	}
	state("ebpf", r.EBPF, r.EBPFWhy)
	state("sim", true, "the same rules in this process, with real packet protection")
	state("none", true, "the relay alone")
	fmt.Fprintf(a.out, "\nfastrelay demo would take %s", r.Demo)
	if r.DemoWhy != "" {
		fmt.Fprintf(a.out, ": %s", r.DemoWhy)
	}
	fmt.Fprintln(a.out)
	if len(r.Programs) < 2 {
		fmt.Fprintln(a.out, "ffmpeg and ffprobe are not both installed: received files are checked by fastrelay itself")
	}
	return nil
}

type color string

const (
	red   color = "31"
	green color = "32"
	bold  color = "1"
)

// paint colours text on a terminal.
func (a *app) paint(c color, s string) string {
	if !a.color {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}
