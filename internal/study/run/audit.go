package run

import "fmt"

// audit compares what was counted while it happened with what the result says of a client: the difference of two counts by class. A run
// whose accounts do not agree has no result.
func (c *client) audit(before, after *[Classes]Fate) error {
	x := &c.stats
	var published, came [Classes]int
	for i := range c.w.program.objects {
		o := &c.w.program.objects[i]
		published[o.class]++
		if epoch+o.came <= c.w.end {
			came[o.class]++
		}
	}
	if x.came != came {
		return fmt.Errorf("accounts of subscriber %d do not agree: of what was published %v came to the relay, %v are counted", c.index, came, x.came)
	}
	var dropped, reset [causes]int
	for class := range after {
		a, b := &before[class], &after[class]
		whole := b.Delivered + b.Late - a.Delivered - a.Late
		rest := b.Unfinished - a.Unfinished
		for i := range dropped {
			dropped[i] += b.Dropped[i] - a.Dropped[i]
			reset[i] += b.Reset[i] - a.Reset[i]
			rest += b.Dropped[i] - a.Dropped[i] + b.Reset[i] - a.Reset[i]
		}
		if whole != x.whole[class] || whole+rest != published[class] {
			return fmt.Errorf("accounts of subscriber %d do not agree: of %d objects of class %v, %d were whole, %d are counted, and %d have other fates",
				c.index, published[class], Class(class), x.whole[class], whole, rest)
		}
	}
	alone := len(c.w.program.streams) == len(c.w.program.objects) // a stream for each object
	for i := causeNone + 1; i < causes; i++ {
		if i != causeStream && (alone && dropped[i] != x.dropped[i] || !alone && dropped[i] < x.dropped[i]) {
			return fmt.Errorf("accounts of subscriber %d do not agree: %d streams were dropped (%v), %d objects are counted", c.index, x.dropped[i], i, dropped[i])
		}
		if alone && reset[i] > x.reset[i] {
			return fmt.Errorf("accounts of subscriber %d do not agree: %d streams were reset (%v), %d objects are counted", c.index, x.reset[i], i, reset[i])
		}
	}
	return nil
}
