package conformance

import (
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// maxFile bounds every file of a folder of vectors, in bytes.
const maxFile = 32 << 20

// testcase is a row with its folder, and with the keys of its context that were
// read.
type testcase struct {
	dir  fs.FS
	row  *Row
	read map[string]bool
}

// get returns a value of the context, "" where it has none.
func (c *testcase) get(key string) string {
	c.read[key] = true
	return c.row.context[key]
}

// has reports whether the context has a key; to ask is not to read it.
func (c *testcase) has(key string) bool {
	_, ok := c.row.context[key]
	return ok && !c.none(key)
}

// trusted are the keys that name what is trusted or vouched for, of which a row may
// say that there is none.
var trusted = []string{"collateral", "jwks", "keys", "roots", "td_quote", "vcek", "vlek"}

// none reports whether a row says that nothing is configured.
func (c *testcase) none(key string) bool {
	return c.row.context[key] == "none" && slices.Contains(trusted, key)
}

// ambient are the keys that every kind may have: the time, which some formats have
// none of their own to compare with, and what is said for people.
var ambient = []string{"as", "crypto", "time"}

// unread returns the first key that the judgement did not look at, "" for none.
func (c *testcase) unread() string {
	for _, key := range slices.Sorted(maps.Keys(c.row.context)) {
		if !c.read[key] && !c.none(key) && !slices.Contains(ambient, key) && !slices.Contains(factKeys, key) {
			return key
		}
	}
	return ""
}

// badContext is a context that cannot be judged: a mistake of the manifest, not
// of the evidence.
type badContext struct{ what string }

func (e badContext) Error() string { return e.what }

func bad(format string, args ...any) error { return badContext{fmt.Sprintf(format, args...)} }

// open reads a file of the folder. A name that leads out of it is refused here
// (fs.ValidPath) and by the file system (links).
func (c *testcase) open(name string) ([]byte, error) {
	if !fs.ValidPath(name) {
		return nil, bad("%q is not a path below the folder", name)
	}
	f, err := c.dir.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, bad("%s does not exist", name)
		}
		return nil, bad("%s cannot be read: %v", name, err)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, bad("%s is not a file", name)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, bad("%s cannot be read: %v", name, err)
	}
	if len(b) > maxFile {
		return nil, bad("%s is larger than 32 MiB", name)
	}
	return b, nil
}

// companion reads the file that a key of the context names, nil without the key.
func (c *testcase) companion(key string) ([]byte, error) {
	name := c.get(key)
	if !c.has(key) {
		return nil, nil
	}
	return c.open(name)
}

// companions reads a comma-separated list of files.
func (c *testcase) companions(key string) ([][]byte, error) {
	if !c.has(key) {
		return nil, nil
	}
	var out [][]byte
	for name := range strings.SplitSeq(c.get(key), ",") {
		b, err := c.open(name)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// bound returns the bytes that the evidence has to carry, by the first of the
// given keys that stands in the context.
func (c *testcase) bound(keys ...string) ([]byte, bool, error) {
	for _, key := range keys {
		if !c.has(key) {
			continue
		}
		b, err := hex.DecodeString(c.get(key))
		if err != nil {
			return nil, false, bad("%s is not hex", key)
		}
		return b, true, nil
	}
	return nil, false, nil
}

func (c *testcase) time() (time.Time, error) {
	at, err := time.Parse(time.RFC3339, c.get("time"))
	if err != nil {
		return at, bad("time is missing or not RFC 3339")
	}
	return at, nil
}

func (c *testcase) bank() (tpm2.Bank, error) {
	if !c.has("bank") {
		return tpm2.BankSHA256, nil
	}
	b, ok := tpm2.ParseBank(c.get("bank"))
	if !ok {
		return b, bad("bank has to be sha1, sha256 or sha384")
	}
	return b, nil
}

// choice returns the value of a key, which has to be one of a few.
func (c *testcase) choice(key string, allowed ...string) (string, error) {
	v := c.get(key)
	for _, a := range allowed {
		if v == a {
			return v, nil
		}
	}
	return "", bad("%s=%s is not known here", key, v)
}

// derOf returns the first block of a PEM file and the blocks behind it, or the
// bytes as they are.
func derOf(b []byte) (first []byte, others [][]byte) {
	block, rest := pem.Decode(b)
	if block == nil {
		return b, nil
	}
	for {
		next, more := pem.Decode(rest)
		if next == nil {
			return block.Bytes, others
		}
		others, rest = append(others, next.Bytes), more
	}
}
