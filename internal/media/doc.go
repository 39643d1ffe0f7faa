// Package media turns an MP4 file into Media-over-QUIC objects and received objects into an MP4 file again.
//
//	sample.mp4 ──Open──► Clip ─┬─ catalog   ┌──────┐                     ┌──────┐
//	                           │            │ G0 0 │                     │ G1 0 │           every group start
//	                           ├─ video     ├──────┼──────┬──────┬─  ─┬──┼──────┼──────┬─
//	                           │            │ key  │ B    │ P    │    │  │ key  │ B    │    object = moof+mdat, 1 sample
//	                           └─ audio     ├────┬─┴──┬───┴┬─────┴    └──┼────┬─┴──┬───┴
//	                                        │ a  │ a  │ a  │             │ a  │ a  │         same groups as the video
//	                                        └────┴────┴────┘             └────┴────┘
//
//	objects, in any order ──Writer──► received.mp4 (fragmented, all tracks) ──Verify──► Report
//
// A group is a GOP of the first video track; the other tracks are cut at the same times, so that a subscriber who joins at
// a group gets all tracks from one moment on. How a group becomes QUIC streams (MoQ subgroups) is a [Layout].
//
// Every frame carries a MoQ publisher priority (lower is more important) that follows from its type: [PriorityAudio],
// [PriorityKey], [PriorityReference], [PriorityNonReference]. What nothing refers to can be dropped without harm to the rest.
//
// Input is read whole into memory and is bounded ([MaxFileSize], [MaxSamples]). No input makes the package panic.
package media
