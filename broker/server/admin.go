package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/zonebroker/zonebroker/broker/internal/unixsocket"
)

// listenAdmin opens the operators' socket: mode 0600 in a folder of mode 0700
// that belongs to this process. The folder is made if it is missing. A socket
// that nobody listens on is replaced; one that somebody listens on is an error.
func listenAdmin(path string) (net.Listener, error) {
	if err := unixsocket.CheckPath(path); err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	if err := privateFolder(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	if err := unixsocket.MakeRoom(path); err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	// Between the two calls the folder keeps others out.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	return l, nil
}

// privateFolder makes dir or checks it. Whoever can write there can put a
// socket of his own in place of ours and read what operators send.
func privateFolder(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	case !ok || int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to another user", dir)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s has mode %04o and must be private: chmod 700 %s", dir, info.Mode().Perm(), dir)
	}
	return nil
}

type uidKey struct{}

// withPeerUID notes who is on the other end of an admin connection. The kernel
// says so; the client cannot. A uid that cannot be read is nobody's.
func withPeerUID(ctx context.Context, c net.Conn) context.Context {
	uid := int64(-1)
	if u, ok := c.(*net.UnixConn); ok {
		if raw, err := u.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
					uid = int64(cred.Uid)
				}
			})
		}
	}
	return context.WithValue(ctx, uidKey{}, uid)
}

func peerUID(ctx context.Context) int64 {
	if uid, ok := ctx.Value(uidKey{}).(int64); ok {
		return uid
	}
	return -1
}

// mayOperate allows root and the user that the broker runs as.
func mayOperate(uid int64) bool { return uid == 0 || uid == int64(os.Geteuid()) }
