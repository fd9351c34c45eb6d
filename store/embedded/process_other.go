//go:build unix && !linux

package embedded

import "syscall"

// attributes puts the program into a process group of its own. There is no
// parent-death signal here: what a killed owner leaves running makes the next
// start fail with the sentence of Postgres.
func attributes(as *credential) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if as != nil {
		a.Credential = &syscall.Credential{Uid: as.uid, Gid: as.gid}
	}
	return a
}

// canTellServers: see serversIn.
const canTellServers = false

// serversIn cannot tell whose folder a process works in and finds none.
func serversIn(string) []int { return nil }
