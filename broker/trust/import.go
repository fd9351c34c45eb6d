package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Outcomes of one certificate or file that is imported.
const (
	ImportAdded      = "added"      // kept
	ImportPresent    = "present"    // was in the folder already
	ImportDuplicate  = "duplicate"  // came twice in this import
	ImportUnlisted   = "unlisted"   // in no row, and not kept
	ImportNoCA       = "no_ca"      // no CA certificate: nothing that could vouch for an EK
	ImportUnreadable = "unreadable" // no certificate, or one that does not parse
)

// Imported is what became of one certificate, or of a file that holds none.
type Imported struct {
	Row            // maker "" where the table does not list it; empty for ImportUnreadable
	Outcome string // an Import constant
	File    string
	Detail  string // why it is unreadable
}

// Import takes the certificates in a file, or in the files of a folder and below
// it: PEM, bundles of PEM, or DER. What no row of the table lists is kept only
// with alsoUnlisted, and not where it belongs elsewhere: the root of a cloud must
// not make TPMs genuine. The error is one of writing, or of a folder that cannot be
// read; what is wrong with a single file is in the list.
func (f *Folder) Import(path string, alsoUnlisted bool, elsewhere map[[32]byte]bool) ([]Imported, error) {
	files, err := Files(path)
	if err != nil {
		return nil, err
	}
	var out []Imported
	seen := map[[32]byte]bool{}
	unlisted := func(sum [32]byte) bool { return alsoUnlisted && !elsewhere[sum] }
	for _, file := range files {
		got, err := f.importFile(file, unlisted, seen)
		out = append(out, got...)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// Files returns a file, or the files of a folder and below it.
func Files(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var out []string
	err = filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			out = append(out, p)
		}
		if err == nil && len(out) > maxFiles {
			err = fmt.Errorf("%s has more than %d files", path, maxFiles)
		}
		return err
	})
	return out, err
}

func (f *Folder) importFile(file string, unlisted func(sum [32]byte) bool, seen map[[32]byte]bool) ([]Imported, error) {
	raw, err := readFile(file)
	if err != nil {
		return []Imported{{Outcome: ImportUnreadable, File: file, Detail: err.Error()}}, nil
	}
	ders := [][]byte{raw}
	if block, rest := pem.Decode(raw); block != nil {
		ders = nil
		for ; block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "CERTIFICATE" {
				ders = append(ders, block.Bytes)
			}
		}
	}
	if len(ders) == 0 { // keys, lists
		return []Imported{{Outcome: ImportUnreadable, File: file, Detail: "no certificate among its PEM blocks"}}, nil
	}
	var out []Imported
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			out = append(out, Imported{Outcome: ImportUnreadable, File: file, Detail: "no X.509 certificate in PEM or DER"})
			continue
		}
		i := Imported{Row: f.describe(c), File: file}
		if i.Outcome, err = f.take(c, unlisted, seen); err != nil {
			return out, err
		}
		out = append(out, i)
	}
	return out, nil
}

func (f *Folder) describe(c *x509.Certificate) Row {
	if r, ok := f.rows[sha256.Sum256(c.Raw)]; ok {
		return r
	}
	return rowOf(c)
}

func (f *Folder) take(c *x509.Certificate, unlisted func(sum [32]byte) bool, seen map[[32]byte]bool) (string, error) {
	sum := sha256.Sum256(c.Raw)
	_, listed := f.rows[sum]
	switch {
	case seen[sum]:
		return ImportDuplicate, nil
	case !listed && !c.IsCA:
		return ImportNoCA, nil
	case !listed && !unlisted(sum) && f.held[sum] == nil:
		return ImportUnlisted, nil
	}
	seen[sum] = true
	added, err := f.keep(c)
	if err != nil {
		return "", err
	}
	if added {
		return ImportAdded, nil
	}
	return ImportPresent, nil
}
