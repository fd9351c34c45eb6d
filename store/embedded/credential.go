package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// credential is the unprivileged user as whom Postgres runs when the caller is
// root, as which Postgres refuses to run. The nil credential is the caller.
type credential struct {
	uid, gid uint32
	name     string
}

// userFor returns the owner of an existing cluster, else the user postgres,
// else nobody; nil unless the caller is root.
func userFor(data string) (*credential, error) {
	if os.Geteuid() != 0 {
		return nil, checkOwn(data)
	}
	info, err := os.Lstat(data)
	if err == nil {
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Uid == 0 {
			return nil, fmt.Errorf("%s belongs to root, as whom Postgres does not run: move it away", data)
		}
		return &credential{uid: st.Uid, gid: st.Gid, name: strconv.FormatUint(uint64(st.Uid), 10)}, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return unprivileged(), nil
}

// checkOwn refuses a cluster of another user before Postgres does.
func checkOwn(data string) error {
	info, err := os.Lstat(data)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, and you are user %d", data, st.Uid, os.Geteuid())
	}
	return nil
}

func unprivileged() *credential {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err == nil && err2 == nil && uid != 0 {
			return &credential{uid: uint32(uid), gid: uint32(gid), name: name}
		}
	}
	return &credential{uid: 65534, gid: 65534, name: "nobody"} // Linux's overflow user
}

func (c *credential) effectiveUID() uint32 {
	if c == nil {
		return uint32(os.Geteuid())
	}
	return c.uid
}

func (c *credential) own(path string) error {
	if c == nil {
		return nil
	}
	return os.Lchown(path, int(c.uid), int(c.gid))
}

// mayEnter says in one sentence which folder on the way to dir shuts the user
// out.
func (c *credential) mayEnter(dir string) error {
	if c == nil {
		return nil
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		if !c.passes(info) {
			return fmt.Errorf("%s cannot be entered by user %s, as whom Postgres runs under root: choose a folder under /var/cache/zonebroker, or chmod a+x %s",
				at, c.name, at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

func (c *credential) passes(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	mode := info.Mode().Perm()
	switch {
	case st.Uid == c.uid:
		return mode&0o100 != 0
	case st.Gid == c.gid:
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

// TempDir makes a folder for a cluster that will not be kept, one that the
// unprivileged user can pass through when the caller is root. The caller
// removes it.
func TempDir(pattern string) (string, error) {
	dir, err := os.MkdirTemp("", pattern)
	if err != nil || os.Geteuid() != 0 {
		return dir, err
	}
	return dir, os.Chmod(dir, 0o711)
}
