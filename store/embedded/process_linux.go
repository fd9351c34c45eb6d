package embedded

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// attributes puts the program into a process group of its own, so that Ctrl-C
// on a terminal reaches the owner first, and has it end when the owner dies.
func attributes(as *credential) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	if as != nil {
		a.Credential = &syscall.Credential{Uid: as.uid, Gid: as.gid}
	}
	return a
}

// canTellServers: serversIn sees every server of this user.
const canTellServers = true

// serversIn lists the processes of Postgres whose working folder is data, as it
// is of every postmaster and backend. The process number in a pid file proves
// nothing: numbers are used again.
func serversIn(data string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		if cwd, err := os.Readlink(filepath.Join(dir, "cwd")); err != nil || cwd != data {
			continue
		}
		if comm, err := os.ReadFile(filepath.Join(dir, "comm")); err == nil && strings.TrimSpace(string(comm)) == "postgres" {
			found = append(found, pid)
		}
	}
	return found
}
