// Package workloadapi serves the SPIFFE Workload API to the processes of this
// host over a Unix socket: the X.509 profile and the JWT profile, full state in
// every message (SPIFFE Workload Endpoint and Workload API, 2023).
//
// It decides which workload a caller is, and nothing else: identities, rules and
// the bundle come from a Source. The first rule of the node's zone that fits the
// caller, in the order of the zone's document, gives the one identity that the
// caller gets. The rule is looked up again for every message of a stream, so
// that a rule that is gone takes its identity back: the stream ends with
// PermissionDenied.
//
// It trusts the kernel for who is calling (SO_PEERCRED, unix(7)) and root on
// this host for everything. A connection speaks for the process that made it,
// also where that process hands the descriptor on. What a rule is worth:
//
//   - uid: the boundary that the kernel draws between users.
//   - path: narrows a uid down to one executable. It is no boundary between
//     processes of the same user, who can run that executable with code of their
//     own inside (LD_PRELOAD, ptrace). A rule of a path alone therefore means
//     everybody who may execute the file.
//
// The path is what /proc/PID/exe shows, guarded against a process that ended
// while it was looked at, and has to be the same file in the agent's view of the
// file system: a user namespace lets anybody put an executable of his own at any
// path of a private view. Interpreters are what they are: the path of a script's
// process is that of the interpreter.
//
// Bounds: connections overall and for each uid, streams of a connection, sizes of
// requests, refusals that a workload may cause at the broker. A stream holds no
// queue: its next message is composed when the one before is out.
package workloadapi
