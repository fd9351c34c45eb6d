package tpm2collect

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

const (
	// DefaultEventLog is where Linux shows the firmware's event log.
	DefaultEventLog = "/sys/kernel/security/tpm0/binary_bios_measurements"
	// MaxEventLog is the most bytes of a log that are read and sent.
	MaxEventLog = 1 << 20
)

// ReadEventLog reads a firmware event log, at most MaxEventLog bytes. A file
// that does not exist is no error and gives nil: the broker then refuses what
// the log would have explained, and says so.
func ReadEventLog(path string) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		fix := ""
		if errors.Is(err, fs.ErrPermission) {
			fix = "the kernel shows the log to root only: run as root, or give a copy with --event-log FILE"
		}
		return nil, &Error{What: "read the event log", Why: err.Error(), Fix: fix, err: err}
	}
	defer file.Close()
	// The kernel's file says it is 0 bytes long, so its size cannot be asked for.
	log, err := io.ReadAll(io.LimitReader(file, MaxEventLog+1))
	if err != nil {
		return nil, fmt.Errorf("read the event log: %w", err)
	}
	if len(log) > MaxEventLog {
		return nil, &Error{What: "read the event log", Why: fmt.Sprintf("%s is larger than %d bytes", path, MaxEventLog), Fix: "name the right file with --event-log FILE"}
	}
	return log, nil
}
