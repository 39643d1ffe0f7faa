package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/relay"
)

type relayCmd struct {
	Listen        string   `default:"127.0.0.1:4433" placeholder:"ADDR" help:"UDP address to listen on, host:port; port 0 takes a free one (default: ${default})."`
	Datapath      string   `default:"auto" enum:"auto,ebpf,sim,none" help:"What forwards packets: the kernel (ebpf: root, and --cipher=null as of now), its simulation in this process (sim), or nothing but the relay itself (none). auto takes ebpf where it can, otherwise none."`
	Interface     []string `placeholder:"NAME" help:"With ebpf: network interface to attach to; may be repeated. Default: those that have the address of --listen, or all but loopback if that is unspecified."`
	upstreamFlags `group:"Upstream relay"`
	Cipher        string        `default:"aead" enum:"aead,null" help:"Packet protection: aead, or null, which leaves packets on the wire unprotected, for labs alone; all parties must use the same (default: ${default})."`
	PriorityCID   bool          `name:"priority-cid" help:"Take the priority of each packet from its connection ID, and write it there, with publishers, subscribers and relays that have this option too; others are served as without."`
	Congestion    string        `default:"scream" enum:"${congestion}" help:"What controls how much the datapath may send to a subscriber: ${enum} (default: ${default}). What userspace sends is quic-go's to control."`
	Cert          string        `type:"existingfile" placeholder:"FILE" and:"cert" help:"PEM file with the certificate. Default: a new self-signed one."`
	Key           string        `type:"existingfile" placeholder:"FILE" and:"cert" help:"PEM file with its key."`
	WriteCert     string        `placeholder:"FILE" help:"Write the certificate to a file, for the clients' --ca."`
	Keylog        string        `placeholder:"FILE" help:"Append the connections' secrets to a file, for Wireshark."`
	PacketSize    int           `placeholder:"BYTES" help:"Size of packets to a peer before path MTU discovery has found more, 1200 to 1452, where all paths are known to carry it. Default: 1280."`
	CacheSize     int           `default:"64" placeholder:"MIB" help:"Memory for objects that are held to answer FETCH, in MiB; 0: none are held (default: ${default})."`
	CacheAge      time.Duration `default:"30s" placeholder:"DURATION" help:"How long an object is held at most (default: ${default})."`
	Heuristic     string        `default:"" placeholder:"NAME" help:"What to drop when a subscriber's path cannot carry everything: ${heuristics}. Needs a datapath. Default: nothing is dropped; what a path cannot carry waits."`
	Record        string        `placeholder:"FILE" help:"Write policies and the datapath's records to a file, for fastrelay replay. Needs a datapath."`
	StatsInterval time.Duration `placeholder:"DURATION" help:"Print counters that often. Default: at the end alone."`
}

// Help is shown by --help.
func (*relayCmd) Help() string {
	return `Relays what publishers announce to who subscribes, until it is interrupted.

  fastrelay relay --write-cert relay.pem                            and in other terminals:
  fastrelay publish --ca relay.pem
  fastrelay subscribe --ca relay.pem --out received.mp4

Relays stand in a row: what nobody announced here is subscribed to at --upstream, once for all subscribers. Publishers are
announced at the top of the row; nothing is announced upwards.

  fastrelay relay --listen 127.0.0.1:4434 --upstream 127.0.0.1:4433 --upstream-ca relay.pem

With --json it prints one line when it listens, one for --stats-interval, and one at the end.`
}

// relayEvent is a line of relay --json.
type relayEvent struct {
	Event       string       `json:"event"` // listening, stats or stopped
	Address     string       `json:"address,omitempty"`
	Datapath    string       `json:"datapath,omitempty"`
	Cipher      string       `json:"cipher,omitempty"`
	Interfaces  []string     `json:"interfaces,omitempty"`
	Upstream    string       `json:"upstream,omitempty"`
	Fingerprint string       `json:"fingerprint,omitempty"` // of the certificate, for the clients' --fingerprint
	Why         string       `json:"why,omitempty"`         // the datapath was chosen
	Stats       *relay.Stats `json:"stats,omitempty"`
}

func (c *relayCmd) Validate() error {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("--listen %s: give a host and a port, as in 127.0.0.1:4433", c.Listen)
	}
	if c.PacketSize != 0 && (c.PacketSize < 1200 || c.PacketSize > datapath.MaxPacketSize) { // RFC 9000, section 14
		return fmt.Errorf("--packet-size must be 1200 to %d, not %d", datapath.MaxPacketSize, c.PacketSize)
	}
	if c.CacheSize < 0 || c.CacheSize > maxCacheSize {
		return fmt.Errorf("--cache-size must be 0 to %d, not %d", maxCacheSize, c.CacheSize)
	}
	if c.CacheAge <= 0 {
		return fmt.Errorf("--cache-age must be more than 0, not %v", c.CacheAge)
	}
	if c.StatsInterval < 0 {
		return fmt.Errorf("--stats-interval must not be negative, and is %v", c.StatsInterval)
	}
	if len(c.Interface) > 0 && (c.Datapath == datapathSim || c.Datapath == datapathNone) {
		return fmt.Errorf("--interface is for --datapath=ebpf, not %s", c.Datapath)
	}
	return checkHeuristic(c.Heuristic)
}

// maxCacheSize is in MiB, and more than machines have.
const maxCacheSize = 1 << 20

func (c *relayCmd) Run(ctx context.Context, a *app) (err error) {
	pc, err := listenUDP(c.Listen)
	if err != nil {
		return err
	}
	r, err := c.start(a, pc)
	if err != nil {
		return errors.Join(err, closeUDP(pc))
	}
	defer closing(r, &err)
	if a.json {
		a.event(r.listening)
	} else {
		a.describe(r.listening)
	}
	serving := make(chan error, 1)
	go func() { serving <- r.relay.Serve(ctx) }()
	var tick <-chan time.Time
	if c.StatsInterval > 0 {
		t := time.NewTicker(c.StatsInterval)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-tick:
			r.report(a, "stats")
		case err := <-serving:
			r.report(a, "stopped")
			if ctx.Err() != nil { // asked to stop
				return nil
			}
			return err
		}
	}
}

// runningRelay is a relay with all that belongs to it.
type runningRelay struct {
	relay     *relay.Relay
	backend   *backend
	keylog    io.Closer
	recording io.Closer
	socket    *net.UDPConn
	listening relayEvent
}

func (c *relayCmd) start(a *app, pc *net.UDPConn) (r *runningRelay, err error) {
	cert, err := c.certificate(pc)
	if err != nil {
		return nil, err
	}
	if c.WriteCert != "" {
		if err := os.WriteFile(c.WriteCert, endpoint.PEM(cert), 0o644); err != nil {
			return nil, fmt.Errorf("--write-cert: %w", err)
		}
	}
	r = &runningRelay{socket: pc}
	var opened []io.Closer
	defer func() {
		if err != nil {
			for _, c := range opened {
				err = errors.Join(err, c.Close())
			}
		}
	}()
	tc := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	if r.keylog, err = keylog(tc, c.Keylog); err != nil {
		return nil, err
	}
	opened = append(opened, r.keylog)
	warnNull(a, c.Cipher)
	if r.backend, err = openBackend(c.Datapath, c.Cipher, pc, c.Interface); err != nil {
		return nil, err
	}
	opened = append(opened, r.backend)
	cfg := relay.Config{Conn: r.backend.conn, TLS: tc, Datapath: r.backend.dp, Null: c.Cipher == cipherNull, PriorityCID: c.PriorityCID,
		Congestion: c.Congestion, PacketSize: c.PacketSize, Logger: a.log, CacheBytes: int64(c.CacheSize) << 20, CacheAge: c.CacheAge}
	if c.CacheSize == 0 {
		cfg.CacheBytes = -1
	}
	if c.Heuristic != "" && cfg.Datapath == nil {
		return nil, needsDatapath("--heuristic", r.backend.why)
	}
	cfg.Heuristic = heuristicNamed(c.Heuristic)
	if cfg.Upstream, err = c.upstream(); err != nil {
		return nil, err
	}
	if r.recording, err = record(&cfg, c.Record, r.backend.why); err != nil {
		return nil, err
	}
	opened = append(opened, r.recording)
	if r.relay, err = relay.New(cfg); err != nil {
		return nil, err
	}
	r.listening = relayEvent{
		Event: "listening", Address: pc.LocalAddr().String(), Datapath: r.backend.name, Cipher: c.Cipher,
		Interfaces: r.backend.interfaces, Upstream: c.Upstream, Fingerprint: endpoint.Fingerprint(cert), Why: r.backend.why,
	}
	return r, nil
}

// checkHeuristic says what there is, if it is not this one.
func checkHeuristic(name string) error {
	if name == "" {
		return nil
	}
	if _, err := heuristic.New(name); err != nil {
		return fmt.Errorf("--heuristic: %w", err)
	}
	return nil
}

// heuristicNamed returns what makes heuristics of a name that was checked, nil for no name.
func heuristicNamed(name string) func() heuristic.Heuristic {
	if name == "" {
		return nil
	}
	return func() heuristic.Heuristic {
		h, _ := heuristic.New(name) // names stay
		return h
	}
}

// needsDatapath is what to do about a flag that does nothing without a datapath; why says why there is none, if that was not asked for.
func needsDatapath(flag, why string) error {
	if why != "" {
		return fmt.Errorf("%s needs a datapath, and there is none (%s): use --datapath=sim", flag, why)
	}
	return fmt.Errorf("%s needs a datapath: use --datapath=sim or ebpf", flag)
}

// certificate reads the certificate, or makes one for the socket's addresses.
func (c *relayCmd) certificate(pc *net.UDPConn) (tls.Certificate, error) {
	if c.Cert != "" {
		cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return cert, fmt.Errorf("--cert and --key: %w", err)
		}
		return cert, nil
	}
	ip := pc.LocalAddr().(*net.UDPAddr).IP
	ips := []net.IP{ip}
	if ip.IsUnspecified() {
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("list this host's addresses: %w", err)
		}
		ips = nil
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				ips = append(ips, n.IP)
			}
		}
	}
	return endpoint.SelfSigned(time.Now(), ips...)
}

func (r *runningRelay) report(a *app, what string) {
	s := r.relay.Stats()
	if a.json {
		a.event(relayEvent{Event: what, Stats: &s})
		return
	}
	if a.quiet {
		return
	}
	subscribers := 0
	for _, t := range s.Tracks {
		subscribers += len(t.Subscribers)
	}
	fmt.Fprintf(a.out, "%s: %d sessions, %d tracks, %d subscriptions; %d packets forwarded by the datapath; %s\n",
		what, s.Sessions, len(s.Tracks), subscribers, s.Boundary.ForwardedPackets, describeReasons(s.Reasons))
}

// Close ends the sessions and detaches the datapath.
func (r *runningRelay) Close() error {
	return errors.Join(r.relay.Close(), r.backend.Close(), closeUDP(r.socket), r.keylog.Close(), r.recording.Close())
}

// describe prints what listens where, and in which modes.
func (a *app) describe(e relayEvent) {
	if a.quiet {
		return
	}
	fmt.Fprintf(a.out, "listening on %s\ndatapath %s", e.Address, e.Datapath)
	if len(e.Interfaces) > 0 {
		fmt.Fprintf(a.out, " on %s", strings.Join(e.Interfaces, ", "))
	}
	if e.Why != "" {
		fmt.Fprintf(a.out, " (%s)", e.Why)
	}
	if e.Upstream != "" {
		fmt.Fprintf(a.out, "\nupstream relay %s", e.Upstream)
	}
	fmt.Fprintf(a.out, "\ncipher %s\nfingerprint %s\n", e.Cipher, e.Fingerprint)
}

// listenUDP opens the relay's socket.
func listenUDP(addr string) (*net.UDPConn, error) {
	ua, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w; give a host and a port, as in 127.0.0.1:4433", addr, err)
	}
	network := "udp"
	if ua.IP.To4() != nil {
		network = "udp4" // also for 0.0.0.0, which is both families otherwise
	}
	pc, err := net.ListenUDP(network, ua)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("cannot listen on %s: the address is in use: stop the other program, or give another address with --listen", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("cannot listen on %s: this host has no such address", addr)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("cannot listen on %s: ports below 1024 need root", addr)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	return pc, nil
}

func closeUDP(pc *net.UDPConn) error {
	if err := pc.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
