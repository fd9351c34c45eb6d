package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	// The port is only a part of the socket's name; nothing listens on TCP.
	socketPort = "5432"
	socketName = ".s.PGSQL." + socketPort
	// sun_path holds 107 bytes on Linux and 103 on macOS; the smaller serves both.
	maxSocketPath = 103
	// A comma splits a list of hosts, and the clients disagree on how the others
	// are quoted.
	awkward = ",\"'\\%+@ \t\n"
)

// folder is the place of one cluster, held by a lock until close.
type folder struct {
	dir, data string
	socketDir string // where the socket is; run, or what run links to
	lock      *os.File
	runAs     *credential // nil: as the caller
}

// openFolder makes the folder if needed, takes it and settles who Postgres is.
func openFolder(dir string) (*folder, error) {
	if dir == "" {
		return nil, errors.New("no folder given")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir}
	if err := f.makeDir(); err != nil {
		return nil, err
	}
	// Postgres reports its working folder with links resolved.
	if f.dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	f.data = filepath.Join(f.dir, "data")
	if err := f.takeLock(); err != nil {
		return nil, err
	}
	if err := f.prepare(); err != nil {
		return nil, errors.Join(err, f.lock.Close())
	}
	return f, nil
}

// makeDir makes the folder. Under root it must let the unprivileged user pass;
// what is in it stays private by its own modes.
func (f *folder) makeDir() error {
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.MkdirAll(filepath.Dir(f.dir), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(f.dir, mode)
	if err == nil {
		return os.Chmod(f.dir, mode) // the umask may have taken bits
	}
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Stat(f.dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", f.dir)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s can be written by others: chmod go-w %s", f.dir, f.dir)
	}
	return nil
}

// takeLock makes the caller the only owner. The kernel drops the lock with the
// owner's life, so it is never stale; the number in the file is for the reader.
func (f *folder) takeLock() error {
	file, err := os.OpenFile(filepath.Join(f.dir, "owner.lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner := make([]byte, 20)
		n, _ := file.Read(owner) // only for the sentence
		_ = file.Close()
		return fmt.Errorf("%s is in use by process %s: one folder, one broker", f.dir, strings.TrimSpace(string(owner[:n])))
	}
	err = file.Truncate(0)
	if err == nil {
		_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.lock = file
	return nil
}

func (f *folder) prepare() error {
	var err error
	if f.runAs, err = userFor(f.data); err != nil {
		return err
	}
	if err := f.runAs.mayEnter(f.dir); err != nil {
		return err
	}
	if info, err := os.Lstat(f.data); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a folder", f.data)
		}
		if info.Mode().Perm()&0o077 != 0 {
			return fmt.Errorf("%s can be entered by others: chmod 700 %s", f.data, f.data)
		}
	}
	return f.prepareSocketDir()
}

// prepareSocketDir makes run, or, where the socket's path would be too long for
// the kernel or unfit for a connection string, a short folder elsewhere that run
// links to.
func (f *folder) prepareSocketDir() error {
	run := filepath.Join(f.dir, "run")
	if old, err := os.Readlink(run); err == nil && f.isPrivate(old) {
		f.socketDir = old
		return nil
	}
	if len(filepath.Join(run, socketName)) <= maxSocketPath && !strings.ContainsAny(run, awkward) {
		f.socketDir = run
		if f.isPrivate(run) {
			return nil
		}
		if err := os.RemoveAll(run); err != nil {
			return err
		}
		return f.makePrivate(run)
	}
	if err := os.RemoveAll(run); err != nil {
		return err
	}
	short, err := f.makeShort()
	if err != nil {
		return err
	}
	f.socketDir = short
	return os.Symlink(short, run)
}

// makeShort makes a private folder under a name nobody can foresee or hold.
func (f *folder) makeShort() (string, error) {
	parent := os.TempDir()
	if len(parent) > 60 {
		parent = "/tmp"
	}
	short, err := os.MkdirTemp(parent, "zb-pg-")
	if err != nil {
		return "", err
	}
	if err := f.runAs.mayEnter(parent); err != nil {
		return "", errors.Join(err, os.Remove(short))
	}
	return short, f.runAs.own(short)
}

// isPrivate says whether dir is a folder of the right owner that nobody else
// can enter.
func (f *folder) isPrivate(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == f.runAs.effectiveUID()
}

// makePrivate makes a 0700 folder that belongs to the user of Postgres.
func (f *folder) makePrivate(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	return f.runAs.own(dir)
}

// clusterVersion returns the major version that made the cluster, 0 if there is
// none.
func (f *folder) clusterVersion() (int, error) {
	text, err := os.ReadFile(filepath.Join(f.data, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(f.data); err == nil {
			return 0, fmt.Errorf("%s exists and holds no cluster of Postgres: move it away", f.data)
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%s/PG_VERSION holds no version", f.data)
	}
	return n, nil
}

// close gives the folder free. A socket folder elsewhere goes with it.
func (f *folder) close() error {
	run := filepath.Join(f.dir, "run")
	if f.socketDir != "" && f.socketDir != run {
		_ = os.RemoveAll(f.socketDir)
		_ = os.Remove(run)
	}
	return f.lock.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
