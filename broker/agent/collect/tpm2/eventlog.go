package tpm2collect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

const (
	// DefaultEventLog is where Linux shows the firmware's event log.
	DefaultEventLog = "/sys/kernel/security/tpm0/binary_bios_measurements"
	// DefaultUserspaceLog is where systemd writes what it measures after the boot.
	DefaultUserspaceLog = "/run/log/systemd/tpm2-measure.log"
	// MaxEventLog is the most bytes of either log that are read and sent.
	MaxEventLog = 1 << 20
)

// ReadEventLog reads a firmware event log, at most MaxEventLog bytes. A file
// that does not exist is no error and gives nil: the broker then refuses what
// the log would have explained, and says so.
func ReadEventLog(path string) ([]byte, error) {
	return readLog(path, logKind{name: "event log", flag: "--event-log", limit: MaxEventLog})
}

// ReadUserspaceLog reads systemd's measurement log in the same way. A host without
// systemd, or with a systemd that measures nothing, has none. A last line without
// its end is one that is being written, and is left out.
func ReadUserspaceLog(path string) ([]byte, error) {
	log, err := readLog(path, logKind{name: "measurement log of systemd", flag: "--userspace-log", limit: MaxEventLog})
	return log[:bytes.LastIndexByte(log, '\n')+1], err
}

// logKind is a log that the kernel shows as a file of unknown length.
type logKind struct {
	name, flag string
	limit      int
}

func readLog(path string, kind logKind) ([]byte, error) {
	what := "read the " + kind.name
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		fix := ""
		if errors.Is(err, fs.ErrPermission) {
			fix = "the kernel shows the log to root only: run as root, or give a copy with " + kind.flag + " FILE"
		}
		return nil, &Error{What: what, Why: err.Error(), Fix: fix, err: err}
	}
	defer file.Close()
	// The kernel's file says it is 0 bytes long, so its size cannot be asked for.
	log, err := io.ReadAll(io.LimitReader(file, int64(kind.limit)+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if len(log) > kind.limit {
		return nil, &Error{What: what, Why: fmt.Sprintf("%s is larger than %d bytes", path, kind.limit), Fix: "name the right file with " + kind.flag + " FILE"}
	}
	return log, nil
}
