// Package command is the command fastrelay, for programs that add heuristics of their own to it. Such a program is the
// whole command; its study compares them, its demo and its relay run them, also in the kernel:
//
//	func main() {
//		if err := heuristic.Register("mine", newMine); err != nil {
//			log.Fatal(err)
//		}
//		os.Exit(command.Main(os.Args[1:], os.Stdout, os.Stderr))
//	}
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/lab/netlab"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // what was asked for did not work
	exitUsage  = 2 // what was asked for is not understood
)

type cli struct {
	JSON     bool             `help:"Print results as JSON on standard output, for programs."`
	Quiet    bool             `short:"q" help:"No progress and no hints, only results and errors."`
	LogLevel slog.Level       `default:"warn" placeholder:"LEVEL" help:"What to log on standard error: debug, info, warn or error (default: ${default})."`
	Version  kong.VersionFlag `help:"Print the version."`

	Demo      demoCmd      `cmd:"" help:"Send a video through the relay, with the fast path and without, and compare."`
	Relay     relayCmd     `cmd:"" help:"Run a relay."`
	Publish   publishCmd   `cmd:"" help:"Publish an MP4 file to a relay, in real time."`
	Subscribe subscribeCmd `cmd:"" help:"Receive from a relay and write an MP4 file."`
	Study     studyCmd     `cmd:"" help:"Simulate subscribers over bottlenecks, and compare what drop heuristics make of them."`
	Replay    replayCmd    `cmd:"" help:"Take the decisions of a recording again, in the simulator."`
	Check     checkCmd     `cmd:"" help:"Say what this machine can do, and why not more."`
}

// app is what commands need of their surroundings.
type app struct {
	out, err io.Writer
	json     bool
	quiet    bool
	tty      bool // standard error is a terminal
	color    bool // standard output is one
	log      *slog.Logger
}

// Main runs the command with the program's arguments, without its name, and returns its exit code: 0, 1 if what was asked for
// did not work, 2 if it was not understood. An interrupt ends it. The demo in the kernel starts the program again, once for
// each namespace, with arguments of its own: so hand over all of os.Args[1:].
func Main(args []string, out, errOut io.Writer) int {
	var c cli
	exit := -1
	k, err := kong.New(&c,
		kong.Name("fastrelay"),
		kong.Description("A Media-over-QUIC relay whose media packets pass from the publisher to the subscribers without going through userspace."),
		kong.Writers(out, errOut),
		kong.Exit(func(code int) { exit = code }),
		kong.UsageOnError(),
		kongVars(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, NoExpandSubcommands: true}),
		kong.ShortUsageOnError(),
	)
	if err != nil {
		fmt.Fprintln(errOut, "fastrelay:", err)
		return exitUsage
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	kctx, err := k.Parse(args)
	if exit >= 0 { // help or version was printed
		return exit
	}
	if err != nil {
		fmt.Fprintf(errOut, "fastrelay: %v (fastrelay %s--help tells more)\n", oneLine(err), helpFor(args))
		return exitUsage
	}
	a := &app{
		out: out, err: errOut, json: c.JSON, quiet: c.Quiet, tty: isTerminal(errOut), color: isTerminal(out) && os.Getenv("NO_COLOR") == "",
		log: slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: c.LogLevel})),
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	kctx.BindTo(ctx, (*context.Context)(nil))
	if err := kctx.Run(a); err != nil {
		if !errors.Is(err, errReported) {
			fmt.Fprintln(errOut, "fastrelay:", oneLine(err))
		}
		return exitFailed
	}
	return exitOK
}

// kongVars are what help texts name.
func kongVars() kong.Vars {
	return kong.Vars{
		"version": version(), "maxhops": strconv.Itoa(netlab.MaxHops), "congestion": strings.Join(congestion.Names(), ","), "heuristics": strings.Join(heuristic.Names(), ", "),
	}
}

// errReported is a failure that the command has told of.
var errReported = errors.New("failed")

// oneLine keeps joined errors on one line.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

func helpFor(args []string) string {
	for _, a := range args {
		switch a {
		case "demo", "relay", "publish", "subscribe", "study", "replay", "check":
			return a + " "
		}
	}
	return ""
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// say prints a line for people on standard error.
func (a *app) say(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.err, format+"\n", args...)
	}
}

// modulePath is where this package is from, also in programs of other modules.
const modulePath = "github.com/fastrelay/fastrelay"

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "fastrelay, unknown version"
	}
	v, within := info.Main.Version, ""
	if info.Main.Path != modulePath {
		v, within = "", " in "+info.Path
		for _, m := range info.Deps {
			if m.Path == modulePath && m.Replace == nil {
				v = m.Version
			}
		}
	}
	if v == "" {
		v = "(devel)"
	}
	return "fastrelay " + v + within + " " + info.GoVersion
}
