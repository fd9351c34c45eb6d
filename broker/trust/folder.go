package trust

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// maxFile bounds a file that is imported or stands in the folder, in bytes: the
// bundle of all makers has a third of a MiB.
const maxFile = 1 << 20

// maxFiles bounds a folder that is imported.
const maxFiles = 10_000

// Folder is where a broker reads manufacturers' CAs from: each *.pem and *.crt
// in it, at its start.
type Folder struct {
	dir  string
	rows map[[32]byte]Row
	held map[[32]byte]*x509.Certificate
}

// Open reads a folder; one that is not there yet is empty.
func Open(dir string) (*Folder, error) {
	rows, err := Table()
	if err != nil {
		return nil, err
	}
	return open(dir, rows)
}

func open(dir string, rows []Row) (*Folder, error) {
	f := &Folder{dir: dir, rows: make(map[[32]byte]Row, len(rows)), held: map[[32]byte]*x509.Certificate{}}
	for _, r := range rows {
		f.rows[r.SHA256] = r
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() || !slices.Contains([]string{".pem", ".crt"}, filepath.Ext(e.Name())) {
			continue
		}
		raw, err := readFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		certs, err := x509chain.ReadBundle(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, e.Name()), err)
		}
		for _, c := range certs {
			f.held[sha256.Sum256(c.Raw)] = c
		}
	}
	return f, nil
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	return raw, err
}

// States of a certificate.
const (
	StatePresent  = "present"  // of the table, and in the folder
	StateMissing  = "missing"  // of the table, and not in the folder
	StateExpired  = "expired"  // past its notAfter, in the folder or not
	StateUnlisted = "unlisted" // in the folder, and in no row of the table
)

// Status is a certificate of the table or of the folder.
type Status struct {
	Row
	State string
	Held  bool // in the folder
}

// Status lists the rows of the table and what else is in the folder, at now: by
// maker, role, subject and fingerprint, unlisted certificates last.
func (f *Folder) Status(now time.Time) []Status {
	var out []Status
	for _, r := range f.rows {
		s := Status{Row: r, State: StateMissing, Held: f.held[r.SHA256] != nil}
		switch {
		case now.After(r.NotAfter):
			s.State = StateExpired
		case s.Held:
			s.State = StatePresent
		}
		out = append(out, s)
	}
	for sum, c := range f.held {
		if _, listed := f.rows[sum]; listed {
			continue
		}
		s := Status{Row: rowOf(c), State: StateUnlisted, Held: true}
		if now.After(c.NotAfter) {
			s.State = StateExpired
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Status) int {
		return cmp.Or(last(a.Maker == "", b.Maker == ""), cmp.Compare(a.Maker, b.Maker), cmp.Compare(b.Role, a.Role),
			cmp.Compare(a.Subject, b.Subject), bytes.Compare(a.SHA256[:], b.SHA256[:]))
	})
	return out
}

func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// rowOf describes a certificate that stands in no row: its maker is unknown.
func rowOf(c *x509.Certificate) Row {
	r := Row{
		Role: RoleIntermediate, Subject: c.Subject.String(), Serial: fmt.Sprintf("%x", c.SerialNumber),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), SHA256: sha256.Sum256(c.Raw),
	}
	if bytes.Equal(c.RawIssuer, c.RawSubject) {
		r.Role = RoleRoot
	}
	return r
}

// Anchors returns how many self-issued certificates are in the folder. A broker
// refuses to start with certificates of which none is.
func (f *Folder) Anchors() int {
	n := 0
	for _, c := range f.held {
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			n++
		}
	}
	return n
}

// Held returns how many certificates are in the folder.
func (f *Folder) Held() int { return len(f.held) }

// keep writes one certificate, as a file of its own: a crash leaves it there or
// not, never half. It reports whether it was new.
func (f *Folder) keep(c *x509.Certificate) (added bool, err error) {
	sum := sha256.Sum256(c.Raw)
	if f.held[sum] != nil {
		return false, nil
	}
	name := "unlisted"
	if r, ok := f.rows[sum]; ok {
		name = r.Maker
	}
	text := "# " + strings.Map(plain, c.Subject.String()) + "\n" +
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	path := filepath.Join(f.dir, name+"-"+hex.EncodeToString(sum[:12])+".pem")
	if err := WriteFile(path, []byte(text)); err != nil {
		return false, err
	}
	f.held[sum] = c
	return true, nil
}

// plain keeps a name in one line of ASCII: it stands before the PEM block, where
// a line that looks like another block must not appear.
func plain(r rune) rune {
	if r < ' ' || r > '~' || r == '-' {
		return '.'
	}
	return r
}
