package workloadapi

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/zonebroker/zonebroker/broker/internal/unixsocket"
)

// listen opens the socket: everybody may connect, nobody else may put another
// socket in its place. The folder is made if it is missing. A socket that nobody
// listens on is replaced; one that somebody listens on is an error.
func listen(path string) (*net.UnixListener, error) {
	if path == "" {
		return nil, errors.New("workload socket: no path")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("workload socket: %w", err)
	}
	if err := unixsocket.CheckPath(path); err != nil {
		return nil, fmt.Errorf("workload socket: %w", err)
	}
	if err := ownFolder(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("workload socket: %w", err)
	}
	if err := unixsocket.MakeRoom(path); err != nil {
		return nil, fmt.Errorf("workload socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("workload socket: %w", err)
	}
	// Callers are told apart by their credentials, not by who may connect.
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, fmt.Errorf("workload socket: %w", err)
	}
	return l, nil
}

// ownFolder makes dir or checks it, and all above it. Whoever can write in one
// of them can put a socket of his own in place of ours and hand identities and
// trust bundles of his own to every workload of this host. Above, a sticky
// folder such as /tmp is safe: entries there belong to who made them.
func ownFolder(dir string) error {
	switch err := os.Mkdir(dir, 0o755); {
	case err == nil:
		// Whatever the umask: callers of other users have to get in.
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if real != filepath.Clean(dir) {
		return fmt.Errorf("%s is %s through a link; name that folder itself", dir, real)
	}
	for at := real; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		sticky := at != real && info.Mode()&fs.ModeSticky != 0
		switch {
		case !info.IsDir():
			return fmt.Errorf("%s is not a folder", at)
		case !ok || (st.Uid != 0 && int(st.Uid) != os.Geteuid()):
			return fmt.Errorf("%s belongs to another user, who could replace the socket", at)
		case info.Mode().Perm()&0o022 != 0 && !sticky:
			return fmt.Errorf("%s has mode %04o, so others could replace the socket: chmod go-w %s", at, info.Mode().Perm(), at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}
