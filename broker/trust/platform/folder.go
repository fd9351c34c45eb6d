package platform

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/broker/trust"
	"github.com/zonebroker/zonebroker/verifier"
)

// maxObjects bounds a folder.
const maxObjects = 4096

// stateDir holds, beside the objects, what is known of their fetching.
const stateDir = ".state"

var endings = []string{".pem", ".crt", ".cer", ".der", ".crl", ".json", ".jwk"}

// ID names an object.
type ID struct{ Kind, Name string }

// String is kind/name, as commands and errors say it.
func (id ID) String() string { return id.Kind + "/" + id.Name }

// object is one file of the folder.
type object struct {
	ID
	content
	file  string // its path
	state state
}

// state is what is known of an object beside its bytes; the zero value for one
// that was put there by hand.
type state struct {
	// Address is asked for it in place of that of the table.
	Address string    `json:"address,omitempty"`
	Fetched time.Time `json:"fetched,omitzero"`
	Expires time.Time `json:"expires,omitzero"` // where the content has no end
	ETag    string    `json:"etag,omitempty"`
	Changed string    `json:"last_modified,omitempty"`
	// Failures in a row, and when to try again after them.
	Failures int       `json:"failures,omitempty"`
	Next     time.Time `json:"next,omitzero"`
	Failure  string    `json:"failure,omitempty"`
}

// ends is when the object stops to count, zero for never.
func (o *object) ends() time.Time {
	if o.content.ends.IsZero() {
		return o.state.Expires
	}
	return o.content.ends
}

// Folder holds the trust objects of a broker, KIND/NAME each.
type Folder struct {
	dir  string
	rows []Row
	held map[ID]*object
}

// Open reads a folder; one that is not there yet is empty. What does not belong
// there is an error: a misspelt kind would be trust that silently does not count.
func Open(dir string) (*Folder, error) {
	rows, err := Table()
	if err != nil {
		return nil, err
	}
	return open(dir, rows)
}

func open(dir string, rows []Row) (*Folder, error) {
	f := &Folder{dir: dir, rows: rows, held: map[ID]*object{}}
	entries, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		k, known := kindOf(e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case !e.IsDir():
			return nil, fmt.Errorf("%s: objects lie in folders named by their kind", filepath.Join(dir, e.Name()))
		case !known:
			return nil, fmt.Errorf("%s: no kind of trust object has that name (%s)", filepath.Join(dir, e.Name()), strings.Join(Kinds(), ", "))
		default:
			if err := f.readKind(k); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

func readDir(dir string) ([]os.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

func (f *Folder) readKind(k kind) error {
	dir := filepath.Join(f.dir, k.name)
	entries, err := readDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		id := ID{k.name, e.Name()}
		for _, ending := range endings {
			id.Name = strings.TrimSuffix(id.Name, ending)
		}
		switch {
		case !verifier.ValidTrustName(id.Name):
			return fmt.Errorf("%s: the name of a trust object has letters, digits, dots, dashes and underscores", path)
		case f.held[id] != nil:
			return fmt.Errorf("%s: %s lies there twice", path, id)
		case len(f.held) == maxObjects:
			return fmt.Errorf("%s: more than %d trust objects", f.dir, maxObjects)
		}
		raw, err := readFile(path, k.max)
		if err != nil {
			return err
		}
		c, err := k.read(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		o := &object{ID: id, content: c, file: path}
		if o.state, err = f.readState(id); err != nil {
			return err
		}
		f.held[id] = o
	}
	return nil
}

func readFile(path string, limit int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if err == nil && len(raw) > limit {
		err = fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return raw, err
}

func (f *Folder) statePath(id ID) string {
	return filepath.Join(f.dir, stateDir, id.Kind, id.Name+".json")
}

func (f *Folder) readState(id ID) (state, error) {
	var s state
	raw, err := readFile(f.statePath(id), 16<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", f.statePath(id), err)
	}
	return s, nil
}

func (f *Folder) writeState(id ID, s state) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return trust.WriteFile(f.statePath(id), append(raw, '\n'))
}

// Objects returns what verifying rests on at a time, by kind and name. Fetched
// token keys that nobody could refresh for their lifetime are left out: their
// issuer may have taken them back. All else says in its own bytes until when it
// counts, and verifying reads that.
func (f *Folder) Objects(now time.Time) []verifier.TrustObject {
	var out []verifier.TrustObject
	for id, o := range f.held {
		if !o.state.Expires.IsZero() && !now.Before(o.state.Expires) {
			continue
		}
		out = append(out, verifier.TrustObject{Kind: id.Kind, Name: id.Name, Raw: o.raw})
	}
	slices.SortFunc(out, func(a, b verifier.TrustObject) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// Held returns how many objects are in the folder.
func (f *Folder) Held() int { return len(f.held) }

// with returns the objects as they would be with one more, or another one.
func (f *Folder) with(id ID, raw []byte) []verifier.TrustObject {
	out := []verifier.TrustObject{{Kind: id.Kind, Name: id.Name, Raw: raw}}
	for other, o := range f.held {
		if other != id {
			out = append(out, verifier.TrustObject{Kind: other.Kind, Name: other.Name, Raw: o.raw})
		}
	}
	return out
}

// put keeps an object that is believed, in place of what had its name. What would
// make the folder useless to the verifier is refused.
func (f *Folder) put(id ID, c content, s state) error {
	k, known := kindOf(id.Kind)
	if !known || !verifier.ValidTrustName(id.Name) {
		return fmt.Errorf("%s is no name of a trust object", id)
	}
	if f.held[id] == nil && len(f.held) == maxObjects {
		return fmt.Errorf("%s holds %d trust objects already", f.dir, maxObjects)
	}
	if _, err := verifier.NewDocuments(f.with(id, c.raw)); err != nil {
		return err
	}
	path := filepath.Join(f.dir, id.Kind, id.Name+k.ending(c.raw))
	// The state comes first: without it fetched keys would count for ever.
	if err := f.writeState(id, s); err != nil {
		return err
	}
	if err := trust.WriteFile(path, c.raw); err != nil {
		return err
	}
	if old := f.held[id]; old != nil && old.file != path {
		if err := os.Remove(old.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	f.held[id] = &object{ID: id, content: c, file: path, state: s}
	return nil
}
