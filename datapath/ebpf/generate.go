package ebpf

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -type cid -type cid_owner -type address -type upstream -type track_key -type track -type sub_key -type sub -type client -type link -type stream_key -type stream -type client_stream_key -type client_stream -type record_frame -type record bpf ../../bpf/fastrelay.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu
