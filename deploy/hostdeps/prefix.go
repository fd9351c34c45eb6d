package hostdeps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The prefix holds one folder a program: root (the unpacked packages), bin (the
// scripts that are run) and release (the system they were made for).

// prefix returns the folder of the private programs, which need not exist.
func (o Options) prefix() (string, error) {
	dir := o.Prefix
	if dir == "" {
		dir = os.Getenv(PrefixVariable)
	}
	if dir == "" && os.Geteuid() == 0 {
		// Not in root's home: Postgres runs as a user who cannot enter it.
		dir = "/var/cache/zonebroker/host"
	}
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no folder for private programs (%w): set %s", err, PrefixVariable)
		}
		dir = filepath.Join(cache, "zonebroker", "host")
	}
	return filepath.Abs(dir)
}

// installed returns the folder of p's scripts in the prefix, "" if p is not
// there or was made for another release of the system.
func (o Options) installed(p program) (string, error) {
	prefix, err := o.prefix()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(prefix, p.name)
	made, err := os.ReadFile(filepath.Join(dir, "release"))
	if err != nil {
		return "", nil // absent, or not readable for us, which is the same
	}
	if string(made) != release() {
		return "", nil
	}
	if err := checkOwner(dir); err != nil {
		return "", err
	}
	return filepath.Join(dir, "bin"), nil
}

// checkOwner refuses to run programs that another user could have put there.
// Those of root are as good as the system's.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || (int(st.Uid) != os.Geteuid() && st.Uid != 0) || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s can be written by another user: delete it, or set %s to a folder of your own", dir, PrefixVariable)
	}
	return nil
}

// release identifies the system whose libraries the programs also need; after
// an upgrade of the system they are fetched anew.
func release() string {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "unknown"
	}
	var id, version string
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			id = value
		case "VERSION_ID":
			version = value
		}
	}
	return id + "-" + version
}

// lockPrefix makes the prefix and takes its lock, waiting for another fetch to
// end. The kernel drops the lock with its holder's life.
func lockPrefix(ctx context.Context, prefix string) (unlock func(), err error) {
	if err := os.MkdirAll(prefix, 0o755); err != nil {
		return nil, err
	}
	if err := checkOwner(prefix); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(prefix, ".lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(err, file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another fetch into %s goes on: %w", prefix, context.Cause(ctx)), file.Close())
		case <-tick.C:
		}
	}
}

// writeScripts makes one script for each program in root. They are written for
// final, the place that the folder will have.
func writeScripts(dir, final string) error {
	root := filepath.Join(dir, "root")
	libraries, err := libraryDirs(root)
	if err != nil {
		return err
	}
	for i, lib := range libraries {
		libraries[i] = filepath.Join(final, strings.TrimPrefix(lib, dir))
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		return err
	}
	var programs []string
	for _, pattern := range []string{"usr/bin/*", "usr/sbin/*", "usr/lib/postgresql/*/bin/*"} {
		matches, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		programs = append(programs, matches...)
	}
	for _, path := range programs {
		target := filepath.Join(final, strings.TrimPrefix(path, dir))
		script := fmt.Sprintf("#!/bin/sh\nLD_LIBRARY_PATH=%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec %s \"$@\"\n",
			shellQuote(strings.Join(libraries, ":")), shellQuote(target))
		if err := os.WriteFile(filepath.Join(dir, "bin", filepath.Base(path)), []byte(script), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// libraryDirs lists the folders of root that hold shared libraries; swtpm keeps
// its own in a folder below.
func libraryDirs(root string) ([]string, error) {
	var dirs []string
	for _, pattern := range []string{"lib/*-linux-*", "usr/lib/*-linux-*", "usr/lib/*-linux-*/swtpm"} {
		matches, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, matches...)
	}
	return dirs, nil
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
