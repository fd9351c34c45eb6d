// Package collect is what this host can hand over beside a TPM quote, or instead
// of one: documents of its cloud, reports of its processor, tokens that somebody
// else made. A package below it is one family of sources; roster lists them all.
//
// Nothing here is judged. A collector asks its source, bounds what comes back and
// passes it on; whoever stands in for the source (another process of the host, a
// neighbour on its network) can make an attestation fail, and nothing more,
// because the broker trusts no byte before its own checks. What a collector must
// not do is give away more than its document: no key that it reads leaves the host,
// and no address is asked but the link-local one of the platform.
package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/zonebroker/zonebroker/verifier"
)

// Bound is what a document has to carry.
type Bound struct {
	// Value is verifier.Binding for the format of the document.
	Value [32]byte
	// Primary is the same for the format that names the node: a GPU's nonce is made
	// from it.
	Primary [32]byte
	// AK is the attestation key of the quote that goes along, SubjectPublicKeyInfo
	// in DER; nil without a quote.
	AK []byte
}

// Collector makes documents of one format.
type Collector interface {
	// Format is one of the formats of package verifier.
	Format() string
	// Detect says whether this host can make one, and by what. It makes none, and
	// costs at most a few requests to the host itself or its platform.
	Detect(ctx context.Context) Finding
	// Collect makes one that carries bound, as far as the format can carry
	// anything. Errors are *Error where a person can do something.
	Collect(ctx context.Context, bound Bound) (verifier.Item, error)
}

// Finding is what a collector knows of its source.
type Finding struct {
	Format string
	Able   bool
	// Class is the binding class that the document can reach, "A", "B" or "C".
	Class string
	// Why is one sentence: what the document comes from, or what is missing.
	Why string
	// Fix is what a person can do about what is missing; "" where there is nothing,
	// because the host is not of that kind.
	Fix string
}

// Yes is a finding of a host that can.
func Yes(format, class, why string) Finding {
	return Finding{Format: format, Able: true, Class: class, Why: why}
}

// No is a finding of a host that cannot.
func No(format, class, why, fix string) Finding {
	return Finding{Format: format, Class: class, Why: why, Fix: fix}
}

// Missing turns the error of a source into a finding.
func Missing(format, class string, err error) Finding {
	f := No(format, class, err.Error(), "")
	if e, ok := errors.AsType[*Error](err); ok {
		f.Why, f.Fix = e.Why, e.Fix
	}
	return f
}

// File is where a path of the running system lies under root: "" and "/" are the
// system itself, anything else a copy of it.
func File(root, path string) string {
	if root == "" {
		return path
	}
	return filepath.Join(root, path)
}

// Read reads a file whose size nobody knows before, as those of the kernel, and
// refuses more than limit bytes.
func Read(path string, limit int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return ReadAll(file, limit)
}

// ReadAll reads r to its end and refuses more than limit bytes.
func ReadAll(r io.Reader, limit int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("more than %d bytes: %w", limit, ErrTooLarge)
	}
	return data, nil
}

// Exists says whether there is a file at path that this process may see.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// IsDenied says whether err is a want of rights, for which there is one fix.
func IsDenied(err error) bool { return errors.Is(err, fs.ErrPermission) }
