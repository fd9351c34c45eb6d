package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// file is one to be written.
type file struct {
	name string
	text []byte
	mode os.FileMode
}

// writeFiles replaces files in dir, each as a whole, in their order, once all of
// them lie beside their places. It returns their paths.
func writeFiles(dir string, files []file) ([]string, error) {
	if err := ownFolder(dir); err != nil {
		return nil, err
	}
	paths, temporary := make([]string, len(files)), make([]string, len(files))
	defer func() {
		for _, path := range temporary {
			if path != "" {
				os.Remove(path)
			}
		}
	}()
	for i, f := range files {
		var err error
		if temporary[i], err = writeBeside(dir, f); err != nil {
			return nil, err
		}
	}
	for i, f := range files {
		paths[i] = filepath.Join(dir, f.name)
		if err := os.Rename(temporary[i], paths[i]); err != nil {
			return nil, err
		}
		temporary[i] = ""
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return paths, d.Sync()
}

// ownFolder makes dir or checks it: whoever can write there can put a key and
// authorities of his own in place of these.
func ownFolder(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("--write: %s is not a folder", dir)
	case !ok || (st.Uid != 0 && int(st.Uid) != os.Geteuid()):
		return fmt.Errorf("--write: %s belongs to another user, who could replace the key", dir)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("--write: %s has mode %04o, so others could replace the key: chmod go-w %s", dir, info.Mode().Perm(), dir)
	}
	return nil
}

// writeBeside writes to a new file in dir and returns its path. The file has its
// mode before it has a byte.
func writeBeside(dir string, f file) (path string, err error) {
	t, err := os.CreateTemp(dir, "."+f.name+".") // mode 0600
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, t.Close()); err != nil {
			os.Remove(t.Name())
			path = ""
		}
	}()
	if err := t.Chmod(f.mode); err != nil {
		return "", err
	}
	if _, err := t.Write(f.text); err != nil {
		return "", err
	}
	return t.Name(), t.Sync()
}
