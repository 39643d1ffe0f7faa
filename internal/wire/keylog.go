package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
)

// Labels of the 1-RTT traffic secrets in a key log (draft-ietf-tls-keylogfile, section 2.1).
const (
	KeyLogClient1RTT = "CLIENT_TRAFFIC_SECRET_0"
	KeyLogServer1RTT = "SERVER_TRAFFIC_SECRET_0"
)

// ErrKeyLog is a line that is not in the format of a key log.
var ErrKeyLog = errors.New("wire: key log line is not `label client_random secret`")

const clientRandomLen = 32

// ParseKeyLogLine parses one line of what crypto/tls writes to a Config.KeyLogWriter (draft-ietf-tls-keylogfile,
// section 2), with or without its line end. A blank line or a comment gives an empty label and no error.
func ParseKeyLogLine(line []byte) (label string, clientRandom, secret []byte, err error) {
	fields := bytes.Fields(line)
	if len(fields) == 0 || fields[0][0] == '#' {
		return "", nil, nil, nil
	}
	if len(fields) != 3 {
		return "", nil, nil, ErrKeyLog
	}
	clientRandom, err = hex.AppendDecode(nil, fields[1])
	if err != nil {
		return "", nil, nil, fmt.Errorf("%w: client random: %w", ErrKeyLog, err)
	}
	if len(clientRandom) != clientRandomLen {
		return "", nil, nil, fmt.Errorf("%w: client random of %d bytes, want %d", ErrKeyLog, len(clientRandom), clientRandomLen)
	}
	secret, err = hex.AppendDecode(nil, fields[2])
	if err != nil {
		return "", nil, nil, fmt.Errorf("%w: secret: %w", ErrKeyLog, err)
	}
	return string(fields[0]), clientRandom, secret, nil
}
