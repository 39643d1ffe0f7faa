//go:build ignore

/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The datapath's three TC programs, in one object because they share tables. docs/rules.md says what they do.
 * The first line keeps the go command from compiling them for this machine.
 *
 *	server_ingress   a publisher's packets: open, window, walk, clone for each client
 *	client_egress    the clones: admit, number, rewrite; runs inside server_ingress' bpf_clone_redirect
 *	client_ingress   the clients' packets: learn where they are
 */
#include "maps.h"

#include "server_ingress.h"
#include "client_egress.h"
#include "client_ingress.h"

char _license[] SEC("license") = "Dual MIT/GPL";
