package props_test

// systemDefect is a fault in the whole system.
type systemDefect struct{}
