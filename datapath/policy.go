package datapath

import (
	"fmt"
	"sync/atomic"
	"time"
)

// A policy says which of a client's media are worth sending when not all can be. It is looked at once when a stream begins or a
// datagram comes, and for the rest of a stream only to bound what was begun. What it drops is never sent; what it
// admits and the budget has no room for now is held: userspace sends it when there is room, the most important first.
//
//	importance ─► band ─► share  ─► plan                   ─► admitted
//	                      │         │ reserve, burst
//	                      drop      drop
//
// The plan is a token bucket of media bytes, told like the pace by the time at which it is full again. Whatever is admitted draws
// from it when it is admitted, sent or held; userspace charges it with its own packets and with what it sends again.

// Bands is the largest number of bands of a policy.
const Bands = 8

// Importance orders media: by the subscriber's priority of the track, then by the publisher's of the object (MoQT, section
// "Priorities"). Lower is more important.
func Importance(subscriber, publisher uint8) uint16 { return uint16(subscriber)<<8 | uint16(publisher) }

// Policy is what a client's media are admitted by. The zero Policy admits everything.
type Policy struct {
	// Rate is how many bytes of media per second the plan takes, 0 for no limit.
	Rate uint64
	// Burst is how many bytes may be admitted at once, Overflow how many more for what has begun and for bands that may.
	Burst, Overflow uint64
	// Bands are of decreasing importance; the last one's UpTo is MaxImportance. Without any everything is admitted.
	Bands []Band
}

// MaxImportance is the Importance of the least important media.
const MaxImportance = 0xffff

// Band is what a policy says of media of some importance.
type Band struct {
	// UpTo is the largest Importance in the band. The band begins behind the one before it.
	UpTo uint16
	// Reserve is how many bytes of Burst new streams of this band leave to the more important. It does not fall from band to band.
	Reserve uint64
	// Overflow lets new streams use Policy.Overflow, as the rest of a stream always may. No band may that follows one that may not.
	Overflow bool
	// Drop is the share of streams that are dropped at their first byte, 0 to 1, whatever the plan says. It does not fall from band to band.
	Drop float64
	// ByGroup has the share be of groups instead of single streams.
	ByGroup bool
	// Cut has what begins later in the same group of the track be dropped when a stream of this band is: nothing could use it.
	Cut bool
	// MaxAge is how long an object that comes under this policy is worth sending after its first byte came, 0 for as long as the subscriber says. While the
	// oldest object of a stream that waits, to be sent for the first time or again, is older, the stream is reset, as by MoQ's delivery
	// timeout (draft-16, section "DELIVERY TIMEOUT Parameter"); how old the stream is does not count. Userspace does it; the datapath does not know of it.
	MaxAge time.Duration
}

// The words of a band, and of a policy, see space.go.
//
//	63…35          34   33        32…16      15…0
//	depth, 1024 ns cut  by group  share·2¹⁶  up to
const (
	bandShareShift = 16
	bandShareMask  = 1<<17 - 1
	bandByGroup    = 1 << 33
	bandCut        = 1 << 34
	bandDepthShift = 35
	bandDepthUnit  = 10
	maxBandDepth   = 1<<(64-bandDepthShift) - 1
	dropAll        = 1 << 16
)

// Check says what is wrong with a policy.
func (p *Policy) Check() error {
	n := len(p.Bands)
	switch {
	case n == 0:
		return nil
	case n > Bands:
		return fmt.Errorf("policy has %d bands, at most %d are possible", n, Bands)
	case p.Bands[n-1].UpTo != MaxImportance:
		return fmt.Errorf("policy's last band ends at importance %d, it must end at %d", p.Bands[n-1].UpTo, MaxImportance)
	case p.Rate > maxRate:
		return fmt.Errorf("policy's rate of %d bytes/s is beyond %d; 0 is no limit", p.Rate, uint64(maxRate))
	case p.Burst > maxBurst || p.Overflow > maxBurst:
		return fmt.Errorf("policy's burst of %d or overflow of %d bytes is beyond %d", p.Burst, p.Overflow, uint64(maxBurst))
	}
	for i, b := range p.Bands {
		if !(b.Drop >= 0 && b.Drop <= 1) {
			return fmt.Errorf("policy's band %d drops a share of %v, it must be from 0 to 1", i, b.Drop)
		}
		if b.MaxAge < 0 {
			return fmt.Errorf("policy's band %d has a negative age of %v", i, b.MaxAge)
		}
		if i == 0 {
			continue
		}
		a := p.Bands[i-1]
		switch {
		case b.UpTo <= a.UpTo:
			return fmt.Errorf("policy's band %d ends at importance %d, not behind band %d, which ends at %d", i, b.UpTo, i-1, a.UpTo)
		case b.Reserve < a.Reserve:
			return fmt.Errorf("policy is not monotone: band %d leaves a reserve of %d bytes, the more important band %d leaves %d", i, b.Reserve, i-1, a.Reserve)
		case b.Overflow && !a.Overflow:
			return fmt.Errorf("policy is not monotone: band %d may overflow, the more important band %d may not", i, i-1)
		case b.Drop < a.Drop:
			return fmt.Errorf("policy is not monotone: band %d drops %v of its streams, the more important band %d drops %v", i, b.Drop, i-1, a.Drop)
		case b.Drop > 0 && a.Drop > 0 && b.ByGroup != a.ByGroup:
			return fmt.Errorf("policy is not monotone: band %d drops by group or stream, and band %d does not do the same", i, i-1)
		}
	}
	return nil
}

// Bounds of what a policy may say: 8 Tbit/s, and what a second of it holds.
const (
	maxRate  = 1e12
	maxBurst = 1 << 40
)

// policyWords is a policy as the datapath reads it: half of the double buffer in a Space.
type policyWords [policyHalf]uint64

// compile turns a policy that has been checked into its words.
func (p *Policy) compile() (w policyWords) {
	if p.Rate > 0 {
		w[policyCost] = max((1e9<<paceShift)/p.Rate, 1)
	}
	depth := func(bytes uint64) uint64 { return bytes * w[policyCost] >> paceShift }
	if w[policyCost] > 0 { // nothing of what follows may overflow
		limit := uint64(1<<62) / w[policyCost]
		depth = func(bytes uint64) uint64 { return min(bytes, limit) * w[policyCost] >> paceShift }
	}
	w[policyStarted] = depth(p.Burst + p.Overflow)
	for i := range Bands {
		b := &p.Bands[min(i, len(p.Bands)-1)]
		bytes := p.Burst - min(b.Reserve, p.Burst)
		if b.Overflow {
			bytes += p.Overflow
		}
		word := uint64(b.UpTo) | uint64(b.Drop*dropAll)<<bandShareShift | min(depth(bytes)>>bandDepthUnit, maxBandDepth)<<bandDepthShift
		if b.ByGroup {
			word |= bandByGroup
		}
		if b.Cut {
			word |= bandCut
		}
		w[policyBands+i] = word
	}
	return w
}

// Offer is a media frame for a client, as a policy looks at it.
type Offer struct {
	Importance uint16
	Group      uint64
	Sample     uint64 // what a share of streams goes by: stream ID / 4, or the upstream packet number of a datagram
	Size       uint64 // bytes for the client's stream, or of the datagram
	Started    bool   // of a stream that was admitted before
	Cut        uint64 // 1 + the group of the track that was cut for the client, 0 if none was
}

// sampleHash spreads shares evenly over IDs that follow each other: 2⁶⁴ divided by the golden ratio.
const sampleHash = 0x9e3779b97f4a7c15

// decide takes a policy's decision on an offer at a time when the plan is full at plan: Forwarded, or the reason for which it is
// dropped. cut says that the rest of its group is to be dropped too.
func (w *policyWords) decide(plan, now uint64, o *Offer) (r Reason, cut bool) {
	if o.Started {
		if cost := w[policyCost]; cost > 0 && PaceAfter(plan, cost, now, o.Size) > now+w[policyStarted] {
			return ReasonDropReserve, w.band(o.Importance)&bandCut != 0
		}
		return Forwarded, false
	}
	if o.Cut == o.Group+1 {
		return ReasonDropGroup, false
	}
	band := w.band(o.Importance)
	sample := o.Sample
	if band&bandByGroup != 0 {
		sample = o.Group
	}
	if sample*sampleHash>>48 < band>>bandShareShift&bandShareMask {
		return ReasonDropShare, band&bandCut != 0
	}
	if cost := w[policyCost]; cost > 0 && PaceAfter(plan, cost, now, o.Size) > now+band>>bandDepthShift<<bandDepthUnit {
		return ReasonDropReserve, band&bandCut != 0
	}
	return Forwarded, false
}

// band returns the word of the band that an importance is in.
func (w *policyWords) band(importance uint16) uint64 {
	i := 0
	for j := range Bands - 1 {
		if uint64(importance) > w[policyBands+j]&0xffff {
			i = j + 1
		}
	}
	return w[policyBands+i]
}

// SetPolicy makes p the client's policy, or says why it cannot be, and changes nothing. Only one goroutine may call it at a time.
// The plan keeps what was drawn from it. Packets under way may still be decided by the policy before.
func (s *Space) SetPolicy(p *Policy) error {
	if err := p.Check(); err != nil {
		return err
	}
	old := atomic.LoadUint64(&s.w[WordPolicy])
	next := (old>>policyShift + 1) << policyShift
	if len(p.Bands) > 0 {
		half := ^old & policySecond
		for i, v := range p.compile() {
			atomic.StoreUint64(&s.w[WordPolicies+policyHalf*int(half)+i], v)
		}
		next |= policyOn | half
	}
	atomic.StoreUint64(&s.w[WordPolicy], next)
	return nil
}

// PolicyWord names a client's policy at some time.
type PolicyWord uint64

// Version is how many policies had been set, modulo 2³².
func (p PolicyWord) Version() uint32 { return uint32(p >> policyShift) }

// On says whether there is a policy.
func (p PolicyWord) On() bool { return p&policyOn != 0 }

// PolicyWord names the policy in use.
func (s *Space) PolicyWord() PolicyWord {
	s.Step()
	return PolicyWord(atomic.LoadUint64(&s.w[WordPolicy]))
}

// PolicyVersion is the version of the policy in use.
func (s *Space) PolicyVersion() uint32 { return s.PolicyWord().Version() }

// Admit takes the policy's decision on an offer now: Forwarded, or a reason to drop it. cut says that the rest of the offer's
// group is to be dropped too. It takes nothing: what is admitted is charged with ChargePlan once it is known that the datapath owns it.
func (s *Space) Admit(now uint64, o *Offer) (r Reason, cut bool) {
	return s.AdmitBy(s.PolicyWord(), s.PlanTime(), now, o)
}

// AdmitBy is Admit by the policy that was in use when its word was read, with the plan full again at a time. Of a policy before the last the words are gone: what
// is taken is then a newer policy's decision, or one that is part of both.
func (s *Space) AdmitBy(policy PolicyWord, plan, now uint64, o *Offer) (r Reason, cut bool) {
	if !policy.On() {
		return Forwarded, false
	}
	var w policyWords
	for i := range w {
		w[i] = atomic.LoadUint64(&s.w[WordPolicies+policyHalf*int(policy&policySecond)+i])
	}
	s.Step()
	return w.decide(plan, now, o)
}

// ChargePlan draws size bytes from the plan, whether they fit or not.
func (s *Space) ChargePlan(now, size uint64) { s.ChargePlanBy(s.PolicyWord(), now, size) }

// ChargePlanBy is ChargePlan at the rate of the policy that was in use when its word was read.
func (s *Space) ChargePlanBy(policy PolicyWord, now, size uint64) {
	if !policy.On() {
		return
	}
	s.Step()
	s.draw(WordPlanTime, atomic.LoadUint64(&s.w[WordPolicies+policyHalf*int(policy&policySecond)+policyCost]), now, size, Unlimited)
}

// PlanTime returns the time at which the plan is full again.
func (s *Space) PlanTime() uint64 { return atomic.LoadUint64(&s.w[WordPlanTime]) }

// NothingWaits as what waits is nothing.
const NothingWaits = MaxImportance + 1

// SetWaiting tells the datapath the importance of the most important bytes that wait in userspace for the budget: what is not more
// important waits behind them. NothingWaits lets everything pass.
func (s *Space) SetWaiting(importance uint32) {
	atomic.StoreUint64(&s.w[WordWaiting], uint64(importance))
}

// Waits says whether media of an importance wait behind what is in userspace.
func (s *Space) Waits(importance uint16) bool {
	s.Step()
	return uint64(importance) >= atomic.LoadUint64(&s.w[WordWaiting])
}
