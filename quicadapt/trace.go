package quicadapt

import (
	"io"

	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// tracer reads from quic-go's event log what nothing else tells: the peer's limits, the proven packet size, the end.
type tracer struct{ c *conn }

func (t tracer) AddProducer() qlogwriter.Recorder { return t }
func (t tracer) SupportsSchemas(string) bool      { return true }

// Close is called when the connection has ended.
func (t tracer) Close() error {
	t.c.ended()
	return nil
}

func (t tracer) RecordEvent(e qlogwriter.Event) {
	switch e := e.(type) {
	case qlog.ParametersSet:
		if e.Initiator != qlog.InitiatorRemote {
			return
		}
		c := t.c
		c.mu.Lock()
		c.maxData = max(c.maxData, uint64(e.InitialMaxData))
		c.toldMaxData = c.maxData
		c.streamLimit = uint64(e.InitialMaxStreamDataUni)
		c.maxStreams = max(c.maxStreams, uint64(e.InitialMaxStreamsUni))
		c.ackExponent = e.AckDelayExponent
		c.maxDatagram = uint64(max(e.MaxDatagramFrameSize, 0)) // negative without the parameter
		c.recovery.maxAckDelay = int64(e.MaxAckDelay)
		if e.MaxUDPPayloadSize > 0 {
			c.peerMaxSize = int(e.MaxUDPPayloadSize)
			c.setMaxSize(c.maxSize)
		}
		c.mu.Unlock()
	case qlog.MTUUpdated:
		t.c.mu.Lock()
		t.c.setMaxSize(e.Value)
		t.c.mu.Unlock()
	}
}

// keyLog takes a connection's secrets out of TLS' key log, which it passes on.
type keyLog struct {
	c    *conn
	next io.Writer
}

func (k keyLog) Write(line []byte) (int, error) {
	label, _, secret, err := wire.ParseKeyLogLine(line)
	if err == nil {
		k.c.mu.Lock()
		switch label {
		case "CLIENT_TRAFFIC_SECRET_0":
			k.c.secretClient = secret
		case "SERVER_TRAFFIC_SECRET_0":
			k.c.secretServer = secret
		}
		k.c.mu.Unlock()
	}
	if k.next != nil {
		return k.next.Write(line)
	}
	return len(line), nil
}
