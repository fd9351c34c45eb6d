//go:build failpoint

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// now is a clock that ZONEBROKER_CLOCK_OFFSET sets wrong, in test builds only: by
// a duration, or by that in a file, which steps the clock of a running process.
var now = func() func() time.Time {
	text := os.Getenv("ZONEBROKER_CLOCK_OFFSET")
	if filepath.IsAbs(text) {
		return func() time.Time {
			raw, err := os.ReadFile(text)
			if err != nil {
				panic(err)
			}
			offset, err := time.ParseDuration(string(raw))
			if err != nil {
				panic(err)
			}
			return time.Now().Add(offset)
		}
	}
	offset, err := time.ParseDuration(text)
	if err != nil {
		return time.Now
	}
	return func() time.Time { return time.Now().Add(offset) }
}()

// failpoint, in test builds only, ends or freezes the process at a named step:
// ZONEBROKER_FAILPOINT=kill:store.precommit@3 sends SIGKILL to itself at the third
// time, stop:… sends SIGSTOP.
var failpoint = func() func(string) {
	what, where, ok := strings.Cut(os.Getenv("ZONEBROKER_FAILPOINT"), ":")
	if !ok {
		return nil
	}
	where, times, _ := strings.Cut(where, "@")
	after := int64(1)
	if times != "" {
		if _, err := fmt.Sscan(times, &after); err != nil {
			panic(err)
		}
	}
	signal := syscall.SIGKILL
	if what == "stop" {
		signal = syscall.SIGSTOP
	}
	// With ZONEBROKER_FAILPOINT_ARM the count begins at the first passage of that
	// step, so that the records of a start are not counted.
	arm := os.Getenv("ZONEBROKER_FAILPOINT_ARM")
	var armed atomic.Bool
	armed.Store(arm == "")
	var seen atomic.Int64
	return func(step string) {
		if step == arm {
			armed.Store(true)
		}
		if armed.Load() && step == where && seen.Add(1) == after {
			_ = syscall.Kill(os.Getpid(), signal)
			if signal == syscall.SIGKILL {
				select {}
			}
			// The signal stops all threads soon, not at once: this one must not pass the
			// step before.
			time.Sleep(100 * time.Millisecond)
		}
	}
}()
