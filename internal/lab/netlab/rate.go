package netlab

import (
	"fmt"
	"time"
)

// queueTime is how much a limited link's queue holds, told as the time that it takes to empty: what home routers have and more.
const queueTime = 200 * time.Millisecond

// QueueBytes is what fits into the queue of a link that is limited to a rate, in bytes per second.
func QueueBytes(rate uint64) int {
	return max(int(float64(rate)*queueTime.Seconds()), 10*DefaultMTU)
}

func checkRate(rate uint64) error {
	const least = 1000
	if rate < least {
		return fmt.Errorf("a link cannot be limited to %d bytes per second: at least %d are needed", rate, least)
	}
	return nil
}
