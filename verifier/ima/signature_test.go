package ima_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
)

// TestCopiesOfASignatureAreVerifiedOnce: a host that fills its list with one good
// record buys no work with it, and its copies do not vouch for anything else.
func TestCopiesOfASignatureAreVerifiedOnce(t *testing.T) {
	first, second := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P384())
	id, one := publicKey(t, first)
	other, two := publicKey(t, second)
	signed := func(key crypto.Signer, id uint32, content string) []byte {
		xattr, err := build.Xattr(rand.Reader, key, id, []byte(content))
		if err != nil {
			t.Fatal(err)
		}
		return xattr
	}
	good := signed(first, id, "good")
	entries := []build.Entry{build.Aggregate(firmware())}
	for range 500 {
		entries = append(entries, build.Signed("/a", []byte("good"), good))
	}
	entries = append(entries,
		build.Signed("/b", []byte("bad"), good),                              // another digest
		build.Signed("/c", []byte("good"), signed(second, other, "good")),    // another key, same digest
		build.Signed("/d", []byte("good"), signed(first, id, "good")),        // another signature of the key
		build.Signed("/e", []byte("good"), append(bytes.Clone(good[:3]), 0)), // no signature
	)
	l := build.New(entries...)
	rules := compile(t, ima.Allow{Keys: []string{one, two}})
	n := ima.CountVerifications(rules)
	j, err := attest(t, l.Bytes(), quoted(l.Extends())).Judge(rules)
	if err != nil || j.Files != 504 || j.Denied != 2 || j.First[0].Path != "/b" || j.First[1].Path != "/e" {
		t.Errorf("%+v (%v)", j, err)
	}
	if *n != 4 {
		t.Errorf("%d verifications of 4 signatures over one digest each", *n)
	}
	if got := ima.Remembered(rules, ima.MaxVerified+5); got != ima.MaxVerified {
		t.Errorf("%d signatures are remembered", got)
	}
}
