package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// Public keys of the logs that other brokers write stand beside log.pub, named
// log-NAME.pub.
const (
	otherLogPrefix = "log-"
	otherLogSuffix = ".pub"
)

// logName is what a log may be called: it stands in names of files and in the
// first line of every checkpoint.
var logName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// initReplica makes the folder of one more broker of the same trust domain and
// database from that of another one. An empty log shares the other's; a name gets
// a log and a key of its own.
func initReplica(dir, of, log, listen string) (pin string, err error) {
	if _, err := os.Lstat(filepath.Join(dir, configFile)); !errors.Is(err, fs.ErrNotExist) {
		return "", errors.Join(fmt.Errorf("%s exists already; a broker's keys are made once", filepath.Join(dir, configFile)), err)
	}
	cfg, err := loadConfig(of)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(cfg.Database, "embedded:") {
		return "", fmt.Errorf("the broker of %s keeps a private Postgres, which no other one can share: give it database: postgres://… first", of)
	}
	if log != "" && (!logName.MatchString(log) || log == cfg.LogID) {
		return "", fmt.Errorf("--log-id %q: a name of lower-case letters, digits and hyphens that no other broker has", log)
	}
	keys, err := loadKeys(of, cfg)
	if err != nil {
		return "", err
	}
	files, err := copied(of, cfg)
	if err != nil {
		return "", err
	}
	logs, err := replicaLog(of, cfg, keys, log)
	if err != nil {
		return "", err
	}
	text, err := replicaConfig(of, log, listen)
	if err != nil {
		return "", err
	}
	files = append(append(files, logs...), newFile{configFile, text, 0o600})
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", err
	}
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f.name)), 0o700); err != nil {
			return "", err
		}
		if err := f.write(dir); err != nil {
			return "", err
		}
	}
	return keys.anchor.Pin(), nil
}

// copied are the files that all brokers of a trust domain share. Folders outside
// of the broker's are used where they are.
func copied(of string, cfg config) ([]newFile, error) {
	names := []string{filepath.Join(secretsDir, clusterKey), filepath.Join(secretsDir, anchorKey), anchorCert}
	for _, dir := range []string{cfg.Policy, cfg.EKRoots, cfg.EKCRLs, cfg.Trust} {
		if filepath.IsAbs(dir) {
			continue
		}
		err := filepath.WalkDir(filepath.Join(of, dir), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
				return nil
			}
			name, relErr := filepath.Rel(of, path)
			names = append(names, name)
			return errors.Join(err, relErr)
		})
		if err != nil {
			return nil, err
		}
	}
	var out []newFile
	for _, name := range names {
		f, err := copyOf(of, name, name)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func copyOf(of, from, to string) (newFile, error) {
	const limit = 64 << 20 // revocation lists are the largest
	info, err := os.Stat(filepath.Join(of, from))
	if err != nil {
		return newFile{}, err
	}
	raw, err := readCapped(filepath.Join(of, from), limit)
	return newFile{to, raw, info.Mode().Perm()}, err
}

// replicaLog is the key of the replica's log and what is known of the others.
func replicaLog(of string, cfg config, keys brokerKeys, log string) ([]newFile, error) {
	var out []newFile
	add := func(from, to string) error {
		f, err := copyOf(of, from, to)
		out = append(out, f)
		return err
	}
	for _, k := range keys.otherLogs {
		name := otherLogPrefix + logOf(k) + otherLogSuffix
		if logOf(k) == log {
			return nil, fmt.Errorf("--log-id %s: %s has the key of a log of that name already", log, filepath.Join(of, name))
		}
		if err := add(name, name); err != nil {
			return nil, err
		}
	}
	if log == "" {
		err := add(filepath.Join(secretsDir, logKeyFile), filepath.Join(secretsDir, logKeyFile))
		return out, errors.Join(err, add(logPublic, logPublic))
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, ledger.Origin(cfg.TrustDomain, log))
	if err != nil {
		return nil, fmt.Errorf("make log key: %w", err)
	}
	out = append(out, newFile{filepath.Join(secretsDir, logKeyFile), []byte(skey + "\n"), 0o600}, newFile{logPublic, []byte(vkey + "\n"), 0o644})
	return out, add(logPublic, otherLogPrefix+cfg.LogID+otherLogSuffix)
}

// replicaConfig is the other's configuration with the lines that differ: its text
// keeps what somebody wrote beside it.
func replicaConfig(of, log, listen string) ([]byte, error) {
	raw, err := readCapped(filepath.Join(of, configFile), maxConfig)
	if err != nil {
		return nil, err
	}
	lines := slices.DeleteFunc(strings.SplitAfter(string(raw), "\n"), func(line string) bool {
		return strings.HasPrefix(line, "replica:") || log != "" && strings.HasPrefix(line, "log_id:") || listen != "" && strings.HasPrefix(line, "listen:")
	})
	text := strings.TrimRight(strings.Join(lines, ""), "\n") + "\n"
	if log != "" {
		text += "log_id: " + log + "\n"
	}
	if listen != "" {
		text += fmt.Sprintf("listen: %q\n", listen)
	}
	return []byte(text), nil
}

// loadOtherLogs reads the keys of the logs that other brokers of the database
// write. One that is named otherwise than its file would check another log than
// its owner meant.
func loadOtherLogs(dir string, cfg config) ([]ledger.NoteVerifier, error) {
	paths, err := filepath.Glob(filepath.Join(dir, otherLogPrefix+"*"+otherLogSuffix))
	if err != nil {
		return nil, err
	}
	var out []ledger.NoteVerifier
	for _, path := range paths {
		raw, err := readCapped(path, maxConfig)
		if err != nil {
			return nil, err
		}
		key, err := note.NewVerifier(strings.TrimSpace(string(raw)))
		if err != nil {
			return nil, fmt.Errorf("%s is not the public key of a log: %w", path, err)
		}
		log := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), otherLogPrefix), otherLogSuffix)
		if key.Name() != ledger.Origin(cfg.TrustDomain, log) {
			return nil, fmt.Errorf("%s is the key of log %s, not of %s", path, key.Name(), ledger.Origin(cfg.TrustDomain, log))
		}
		if log == cfg.LogID {
			return nil, fmt.Errorf("%s is the key of this broker's own log, which is %s", path, logPublic)
		}
		out = append(out, key)
	}
	return out, nil
}

// logOf is the name of the log that a key is of.
func logOf(key ledger.NoteVerifier) string {
	_, log, _ := strings.Cut(key.Name(), "/zonebroker/")
	return log
}
