// Package relay forwards Media-over-QUIC tracks from publishers to subscribers.
//
//	publisher ──► peer ── upstream streams ──► track ──► one sender per subscriber and stream ──► peer ──► subscriber
//	               │  one reader per stream      │        fast: quicadapt.FastStream (the datapath has sent most of it)
//	               │  shared, immutable chunks   │        slow: quic.SendStream
//	               └── namespaces                └── one upstream subscription, however many subscribers
//
// Streams are passed on as bytes arrive, not object by object. Between two connections of the same draft only the track
// alias in a stream's header changes; between drafts every object is transcoded, and the datapath is left out.
//
// With a Datapath the relay binds tracks and subscribers to it and lets it send what it can. Everything else, and without
// a Datapath everything, goes through quic-go. Which of the two a stream takes is decided once for each subscriber.
//
// Objects are held for a while, as the chunks that streams were read into, to answer FETCH; subscriptions get what is live.
//
// What is not there: TRACK_STATUS, SUBSCRIBE_NAMESPACE, and PUBLISH, which moqtransport does not speak: publishers announce
// namespaces and wait to be subscribed to. All three are answered with an error. docs/relay.md tells the rest.
package relay
