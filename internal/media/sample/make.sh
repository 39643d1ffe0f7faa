#!/bin/sh
# Makes sample.mp4, the clip that fastrelay publishes when it is given none.
#
# 10 s, 640x360 at 25 frames/s, H.264 High with B-frames (those that nothing refers to can be dropped without harm),
# one key frame per second, AAC. The test source draws a timer, so that a viewer sees what is late or missing.
# Needs ffmpeg with libx264. The result depends on the version of both; sample.mp4 is therefore committed.
set -eu
cd "$(dirname "$0")"

ffmpeg -v error -y -fflags +bitexact \
	-f lavfi -i testsrc2=size=640x360:rate=25:duration=10 \
	-f lavfi -i sine=frequency=440:beep_factor=4:sample_rate=48000:duration=10 \
	-map 0:v -map 1:a -map_metadata -1 -threads 1 -flags:v +bitexact -flags:a +bitexact \
	-c:v libx264 -profile:v high -preset slow -pix_fmt yuv420p \
	-b:v 620k -maxrate 900k -bufsize 900k \
	-g 25 -keyint_min 25 -sc_threshold 0 -bf 2 -b_strategy 0 -x264-params threads=1:b-pyramid=none:open-gop=0 \
	-c:a aac -b:a 64k -ac 1 \
	-movflags +faststart sample.mp4
