package command

import (
	"fmt"
	"text/tabwriter"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/lab/delayplot"
	"github.com/fastrelay/fastrelay/internal/media"
)

// print shows the report to people.
func (d *demo) print(r *demoReport) {
	out := d.app.out
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "run\tdatapath\tcipher\tobjects\tforwarded\tdelay p50\tp90\tp99\tmax\t")
	for i := range r.Runs {
		run := &r.Runs[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%d/%d\t%.1f %%\t%s\t%s\t%s\t%s\t\n", run.Mode, run.Datapath, run.Cipher,
			run.ObjectsDelivered, run.ObjectsExpected, 100*run.ForwardedShare,
			delayplot.Duration(run.Delay.P50), delayplot.Duration(run.Delay.P90), delayplot.Duration(run.Delay.P99), delayplot.Duration(run.Delay.Max))
	}
	_ = w.Flush() // an error of standard output has no other place to go
	if r.Hops > 1 {
		d.printRelays(r)
	}
	if f, s := r.RelayDelay.Fast, r.RelayDelay.Slow; f.N > 0 && s.N > 0 && f.P50 > 0 {
		with, without := "the fast path", "out"
		if r.Rate > 0 { // both have the fast path
			with, without = r.Heuristic, " "+tailDrop
		}
		fmt.Fprintf(out, "\nmedian delay: %s with %s, %s with%s: %s\n", delayplot.Duration(f.P50), with, delayplot.Duration(s.P50), without,
			d.app.paint(bold, fmt.Sprintf("%.1f times", s.P50/f.P50)))
	}
	if r.Rate > 0 || r.Heuristic != "" {
		d.printMedia(r)
	}
	if r.Loss > 0 || r.PathDelay > 0 {
		fmt.Fprintf(out, "between relay and subscribers: %v of delay, %.3g %% loss, which took %d packets of the first run; %d packets of repairs\n",
			d.Delay, 100*r.Loss, r.PacketsLost, r.Repairs)
	}
	if d := r.RepairDelay; d.N > 0 {
		fmt.Fprintf(out, "what lost packets carried was sent again %d times, half within %.1f ms, 90 %% within %.1f ms, all within %.1f ms; %.0f %% within 1.5 RTT\n",
			d.N, float64(d.P50)/1000, float64(d.P90)/1000, float64(d.Max)/1000, 100*r.RepairsWithinRTT)
	}
	where := "by kernel timestamps at the interfaces of publisher and subscribers"
	if r.DelayFrom == "socket" {
		where = "by timestamps taken in this process at the sockets of publisher and subscribers, so scheduling is part of them"
	}
	fmt.Fprintf(out, "delays are of each byte, %s\n", where)
	if r.DelayFrom == "socket" && r.Datapath == datapathSim {
		fmt.Fprintln(out, "the simulator shows that the fast path is right, not how fast it is in the kernel: see fastrelay check")
	}
	if r.Hops == 1 {
		fmt.Fprintf(out, "\nreasons of the first run: %s\n", describeReasons(r.Reasons))
	}
	fmt.Fprintf(out, "%s: delays of all runs\n", r.Plot)
	for i := range r.Runs {
		if n := len(r.Runs[i].Files); n > 0 {
			fmt.Fprintf(out, "%s: what %s received in run %s\n", r.Runs[i].Files[0], firstOfMany(n), r.Runs[i].Mode)
		}
	}
	for _, p := range r.Pcap {
		fmt.Fprintf(out, "%s: packets of the first run\n", p)
	}
	switch {
	case r.OK && r.Runs[0].excused() > 0:
		fmt.Fprintln(out, d.app.paint(green, "what arrived is unchanged, and the relay has a reason for everything that did not"))
	case r.OK:
		fmt.Fprintln(out, d.app.paint(green, "every object reached every subscriber unchanged"))
	default:
		fmt.Fprintln(out, d.app.paint(red, "not whole:"), r.problems())
	}
}

// printRelays shows what each relay of a row forwarded in the first run.
func (d *demo) printRelays(r *demoReport) {
	first := &r.Runs[0]
	fmt.Fprintln(d.app.out)
	w := tabwriter.NewWriter(d.app.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "relay, run %s\tpackets forwarded\tbytes\trepairs\treasons\t\n", first.Mode)
	for i := range first.Relays {
		hop := &first.Relays[i]
		fmt.Fprintf(w, "%d\t%d\t%.2f %%\t%d\t%s\t\n", i+1, hop.PacketsForwarded, 100*hop.ForwardedShare, hop.Repairs, describeReasons(hop.Reasons))
	}
	_ = w.Flush() // an error of standard output has no other place to go
}

// printMedia shows what became of the media of each priority.
func (d *demo) printMedia(r *demoReport) {
	out := d.app.out
	if r.Rate > 0 {
		fmt.Fprintf(out, "\nbottleneck before the subscribers: %v\n", bitRate(r.Rate))
	}
	fmt.Fprintln(out, "frames of all subscribers, by priority: those that were due and arrived, those that can be decoded, those that the relay did not begin or broke off")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "run\theuristic\tpriority\texpected\tdelivered\tdecodable\tdropped\treset\t")
	for i := range r.Runs {
		run := &r.Runs[i]
		for _, l := range run.Media {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t\n", run.Mode, run.Heuristic, d.layer(l.Priority), l.Expected, l.Delivered, l.Decodable,
				sum(l.Relay.Dropped), sum(l.Relay.Reset))
		}
	}
	_ = w.Flush() // an error of standard output has no other place to go
}

// layer names the media of a priority, as far as it has a name.
func (d *demo) layer(priority uint8) string {
	names := map[uint8]string{
		media.PriorityCatalog: "catalog", media.PriorityAudio: "audio", media.PriorityKey: "key frames",
		media.PriorityReference: "reference frames", media.PriorityNonReference: "other frames",
	}
	if name := names[priority]; name != "" && d.Layout == "per-frame" {
		return fmt.Sprintf("%d %s", priority, name)
	}
	return fmt.Sprint(priority)
}

func firstOfMany(subscribers int) string {
	if subscribers == 1 {
		return "the subscriber"
	}
	return fmt.Sprintf("the first of %d subscribers", subscribers)
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// shortHeaders counts the packets of established connections (RFC 9000, section 17.3) that came from the relay.
func shortHeaders(r *capture.Recording, port uint16) (n uint64) {
	var eth layers.Ethernet
	var ip4 layers.IPv4
	var ip6 layers.IPv6
	var udp layers.UDP
	parser := gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &eth, &ip4, &ip6, &udp)
	parser.IgnoreUnsupported = true
	decoded := make([]gopacket.LayerType, 0, 4)
	for i := range r.Packets {
		if parser.DecodeLayers(r.Packets[i].Data, &decoded) != nil || len(decoded) < 3 || uint16(udp.SrcPort) != port {
			continue
		}
		if p := udp.Payload; len(p) > 0 && p[0]&0x80 == 0 {
			n++
		}
	}
	return n
}
