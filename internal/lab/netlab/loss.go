package netlab

import "fmt"

// MaxLoss is the largest share of packets that a link can be made to lose.
const MaxLoss = 0.5

func checkLoss(share float64) error {
	if !(share >= 0 && share <= MaxLoss) { // not a number is neither
		return fmt.Errorf("a link can lose a share of 0 to %v of its packets, not %v", MaxLoss, share)
	}
	return nil
}
