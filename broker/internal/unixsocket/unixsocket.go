// Package unixsocket is what every listener on a Unix socket needs before it
// listens. Who may connect, and what the folder must be like, is each listener's
// own.
package unixsocket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// maxPath is sun_path of unix(7) without the final NUL.
const maxPath = 107

// CheckPath refuses a path that is too long for a socket. Ask before anything is
// made for it.
func CheckPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("%s is longer than %d bytes; use a shorter folder", path, maxPath)
	}
	return nil
}

// MakeRoom removes a socket that nobody listens on. It is an error if somebody
// does, or if what stands there is no socket. Only a refused connection says that
// nobody listens: a listener whose queue is full is one that lives.
func MakeRoom(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return fmt.Errorf("another process listens on %s", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}
