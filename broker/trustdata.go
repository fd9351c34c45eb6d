package broker

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Kinds of trust files beside those of package verifier, which are for documents.
const (
	TrustEKRoot   = "tpm.root"    // CA certificates of TPM manufacturers, PEM
	TrustEKCRL    = "tpm.crl"     // revocation lists of those CAs
	TrustEKVendor = "tpm.vendors" // manufacturer ids accepted beside the registry, one a line
)

// trustHead begins a version of the trust data: one line a kind follows, in the
// order of kinds, with the SHA-256 of the part that holds its files.
const trustHead = "zonebroker-trust-v1\n"

// objectTrustPart is the kind of object that holds all files of one kind; a
// version names its parts, so that new token keys do not keep all roots again.
const objectTrustPart = "trust.part"

// TrustData is one version of the configured trust: in TPM manufacturers and in
// platforms. Records name its digest, and its bytes are kept so that history can
// be judged again. It is not changed once it is made.
type TrustData struct {
	verifier.Trust
	Digest [32]byte // SHA-256 of Bytes
	Bytes  []byte   // names the parts

	// Roots and Lists are the files of CA certificates and of revocation lists, for
	// evidence files.
	Roots, Lists [][]byte

	platforms []verifier.TrustObject // for evidence files, as Roots
	parts     []ledger.Object
}

// NewTrustData makes a version out of the files: the kinds above and those of
// package verifier. The order of files does not matter. The error says which
// files cannot be used.
func NewTrustData(files []verifier.TrustObject) (TrustData, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b verifier.TrustObject) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	var t TrustData
	var documents []verifier.TrustObject
	for _, f := range files {
		switch f.Kind {
		case TrustEKRoot:
			t.Roots = append(t.Roots, f.Raw)
		case TrustEKCRL:
			t.Lists = append(t.Lists, f.Raw)
		case TrustEKVendor:
			t.ExtraVendors = append(t.ExtraVendors, strings.Fields(string(f.Raw))...)
		default:
			documents = append(documents, f)
		}
	}
	var err error
	if t.EKRoots, err = ekcert.NewRoots(t.Roots...); err != nil {
		return TrustData{}, fmt.Errorf("manufacturers' roots: %w", err)
	}
	if t.CRLs, err = x509chain.NewCRLs(t.Lists...); err != nil {
		return TrustData{}, fmt.Errorf("manufacturers' revocation lists: %w", err)
	}
	t.platforms = documents
	if t.Documents, err = verifier.NewDocuments(documents); err != nil {
		return TrustData{}, err
	}
	t.version(files)
	return t, nil
}

// version packs the files by kind and names the parts.
func (t *TrustData) version(files []verifier.TrustObject) {
	text := []byte(trustHead)
	for len(files) > 0 {
		kind := files[0].Kind
		var part []byte
		for len(files) > 0 && files[0].Kind == kind {
			part = appendLong(appendLong(part, []byte(files[0].Name)), files[0].Raw)
			files = files[1:]
		}
		sum := sha256.Sum256(part)
		t.parts = append(t.parts, ledger.Object{Kind: objectTrustPart, Digest: sum, Bytes: part})
		text = fmt.Appendf(text, "%s %x\n", kind, sum)
	}
	t.Bytes, t.Digest = text, sha256.Sum256(text)
}

func appendLong(to, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(b))), b...)
}

// unpackTrust is the inverse of what version does with one kind.
func unpackTrust(kind string, part []byte) ([]verifier.TrustObject, bool) {
	var out []verifier.TrustObject
	var member [2][]byte
	for len(part) > 0 {
		for i := range member {
			if len(part) < 4 || uint64(binary.BigEndian.Uint32(part)) > uint64(len(part)-4) {
				return nil, false
			}
			n := binary.BigEndian.Uint32(part)
			member[i], part = part[4:4+n], part[4+n:]
		}
		out = append(out, verifier.TrustObject{Kind: kind, Name: string(member[0]), Raw: member[1]})
	}
	return out, true
}

// Version names the trust data, as records do: "sha256:" and the digest in hex.
func (t *TrustData) Version() string { return digestName(t.Digest) }

// TrustDigest returns the digest of the trust data in force.
func (b *Broker) TrustDigest() [32]byte { return b.trust.Load().Digest }

// UseTrust records t as the trust data in force and then judges by it; requests in
// flight finish with what they began with. Nothing is judged by a version that
// the history does not keep.
func (b *Broker) UseTrust(ctx context.Context, t TrustData) error {
	if err := b.publishTrust(ctx, &t); err != nil {
		return err
	}
	b.trust.Store(&t)
	return nil
}

// publishTrust keeps a version and its parts, so that a record can be judged
// again by the trust of its day. The version comes last: one that is kept is
// whole.
func (b *Broker) publishTrust(ctx context.Context, t *TrustData) error {
	by := "replica:" + b.cfg.Replica
	for i := range t.parts {
		if _, _, err := b.publish(ctx, ledger.TypeTrustActivated, by, &t.parts[i]); err != nil {
			return err
		}
	}
	_, _, err := b.publish(ctx, ledger.TypeTrustActivated, by, &ledger.Object{Kind: objectTrust, Digest: t.Digest, Bytes: t.Bytes})
	return err
}

// trustOf returns the trust data that a record names: that in force, or a kept
// version. policy.reference_missing where it is not kept, or cannot be used by
// this version of the broker.
func (b *Broker) trustOf(ctx context.Context, recorded string) (*TrustData, error) {
	for _, p := range []*TrustData{b.trust.Load(), b.pastTrust.Load()} {
		if p != nil && digestName(p.Digest) == recorded {
			return p, nil
		}
	}
	raw, err := hex.DecodeString(strings.TrimPrefix(recorded, "sha256:"))
	if err != nil || len(raw) != 32 {
		return nil, reason.New(reason.PolicyReferenceMissing, "the record names no version of the trust data")
	}
	kept, err := b.cfg.Store.ObjectByDigest(ctx, objectTrust, [32]byte(raw))
	if err != nil {
		return nil, err
	}
	if kept == nil {
		return nil, reason.New(reason.PolicyReferenceMissing, "the trust data of the record is not kept")
	}
	files, err := b.keptTrustFiles(ctx, kept.Bytes)
	if err != nil {
		return nil, err
	}
	t, err := NewTrustData(files)
	if err != nil || t.Digest != [32]byte(raw) {
		return nil, reason.Wrap(reason.PolicyReferenceMissing, "the trust data of the record cannot be used by this version", err)
	}
	b.pastTrust.Store(&t)
	return &t, nil
}

// keptTrustFiles reads the parts that a version names.
func (b *Broker) keptTrustFiles(ctx context.Context, version []byte) ([]verifier.TrustObject, error) {
	unknown := reason.New(reason.PolicyReferenceMissing, "the trust data of the record was kept in a form without its files")
	lines, ok := bytes.CutPrefix(version, []byte(trustHead))
	if !ok {
		return nil, unknown
	}
	var files []verifier.TrustObject
	for line := range strings.Lines(string(lines)) {
		kind, digest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		sum, err := hex.DecodeString(digest)
		if err != nil || len(sum) != 32 {
			return nil, unknown
		}
		part, err := b.cfg.Store.ObjectByDigest(ctx, objectTrustPart, [32]byte(sum))
		if err != nil {
			return nil, err
		}
		if part == nil {
			return nil, reason.Newf(reason.PolicyReferenceMissing, "a part of the record's trust data is not kept: %s", kind)
		}
		of, ok := unpackTrust(kind, part.Bytes)
		if !ok {
			return nil, unknown
		}
		files = append(files, of...)
	}
	return files, nil
}
