// Package workloadapi serves the SPIFFE Workload API to the processes of this
// host over a Unix socket.
package workloadapi
