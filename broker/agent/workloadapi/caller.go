package workloadapi

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// caller is the process that opened a connection, as the kernel noted it when
// it did.
type caller struct {
	uid, gid uint32
	pid      int32 // 0 where the process is outside of this pid namespace: /proc has none
	// pidfd is the connection's and closed with it, while streams may still look;
	// nil where there is none: then no rule with a path fits.
	pidfd *os.File
}

// callerAt reads who is at the other end of a connection.
func callerAt(c *net.UnixConn) (*caller, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	who := new(caller)
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			failed = err
			return
		}
		who.uid, who.gid, who.pid = cred.Uid, cred.Gid, cred.Pid
		who.pidfd = peerPidfd(int(fd), int(cred.Pid))
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, err
	}
	return who, nil
}

// peerPidfd pins the process, so that another one with its pid later on is not
// taken for it. Since Linux 6.5 the kernel pins the one that connected; before,
// a pid that is given out again between connect and accept goes unseen. A kernel
// that knows the option and fails says that the process is gone: asking by pid
// then could only find another.
func peerPidfd(socket, pid int) *os.File {
	fd, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	switch {
	case err == nil:
		return os.NewFile(uintptr(fd), "pidfd")
	case errors.Is(err, unix.ENOPROTOOPT) && pid > 0:
		return openPidfd(pid)
	}
	return nil
}

func openPidfd(pid int) *os.File {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "pidfd")
}

func (c *caller) close() {
	if c.pidfd != nil {
		c.pidfd.Close()
	}
}

// alive reports whether the process that connected still runs. A pidfd is
// readable from its end on (pidfd_open(2)), which needs no permission to ask.
func (c *caller) alive() bool {
	if c.pidfd == nil {
		return false
	}
	raw, err := c.pidfd.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll(fds, 0)
		}
		alive = err == nil && n == 0
	})
	return err == nil && alive
}

// Why an executable cannot be told.
var (
	errGone      = errors.New("the caller's process has ended")
	errMayNot    = errors.New("the agent may not see the caller's executable: run it as root or with CAP_SYS_PTRACE")
	errDeleted   = errors.New("the caller's executable was replaced or removed since it started: restart the caller")
	errElsewhere = errors.New("the caller's executable is not the file that the agent sees under this path: rules with a path are for callers outside of containers")
)

// deletedSuffix is what the kernel adds to the path of a file without a name.
const deletedSuffix = " (deleted)"

// executable is what the caller runs. With an err of errDeleted or errElsewhere
// path is what the kernel says, and nobody may be told by it; with another err it
// is empty.
type executable struct {
	path string
	err  error
}

// executable looks at /proc/PID/exe. The process is asked for its life after
// the last look: while it lives, its pid is nobody else's.
func (c *caller) executable() executable {
	link := "/proc/" + strconv.Itoa(int(c.pid)) + "/exe"
	path, err := os.Readlink(link)
	var there fs.FileInfo
	if err == nil {
		there, err = os.Stat(link)
	}
	switch {
	case !c.alive():
		return executable{err: errGone}
	case err != nil:
		return executable{err: errMayNot}
	}
	if deleted, ok := strings.CutSuffix(path, deletedSuffix); ok {
		return executable{path: deleted, err: errDeleted}
	}
	if here, err := os.Stat(path); err != nil || !os.SameFile(here, there) {
		return executable{path: path, err: errElsewhere}
	}
	return executable{path: path}
}

// authInfo carries the caller through gRPC.
type authInfo struct {
	credentials.CommonAuthInfo
	caller *caller
}

// AuthType names the method.
func (authInfo) AuthType() string { return "so_peercred" }

// peerCredentials authenticates by what the listener read at accept; there is
// nothing to negotiate.
type peerCredentials struct{}

var errServerOnly = errors.New("peer credentials are for servers")

func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errServerOnly
}

func (peerCredentials) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	p, ok := c.(*peerConn)
	if !ok {
		return nil, nil, syscall.EPROTOTYPE
	}
	level := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
	return c, authInfo{CommonAuthInfo: level, caller: p.caller}, nil
}

func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "so_peercred"}
}

func (p peerCredentials) Clone() credentials.TransportCredentials { return p }

func (peerCredentials) OverrideServerName(string) error { return errServerOnly }

// callerOf returns the caller of a request.
func callerOf(ctx context.Context) (*caller, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, false
	}
	info, ok := p.AuthInfo.(authInfo)
	return info.caller, ok
}
