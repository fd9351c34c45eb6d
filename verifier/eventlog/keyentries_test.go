package eventlog_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// TestKeyEntries: what a person reads of the entries of a db, and the digests by
// which a policy names them.
func TestKeyEntries(t *testing.T) {
	// Types of UEFI 2.10, 32.4.1, in the byte order of EFI_GUID.
	certificate := build.GUID{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	imageHash := build.GUID{0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28}
	other := build.GUID{1}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Platform Key", Organization: []string{"Zonebroker"}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	print := func(b []byte) string { h := sha256.Sum256(b); return hex.EncodeToString(h[:]) }
	owned := func(b []byte) []byte { return append(make([]byte, 16), b...) }
	hash := sha256.Sum256([]byte("image"))
	const nobody = "00000000-0000-0000-0000-000000000000"
	noEntry := build.SignatureList(other, nil)
	noEntry[24] = 48 // the size of each, of none

	for name, c := range map[string]struct {
		lists []byte
		says  string
		want  []eventlog.KeyEntry
	}{
		"certificate":         {build.SignatureList(certificate, nil, owned(der)), "1 certificates, 0 hashes", []eventlog.KeyEntry{{Type: eventlog.EntryX509, Owner: nobody, Subject: "CN=Platform Key,O=Zonebroker", Digest: print(der)}}},
		"no DER":              {build.SignatureList(certificate, nil, owned([]byte("x"))), "1 certificates, 0 hashes", []eventlog.KeyEntry{{Type: eventlog.EntryX509, Owner: nobody, Digest: print([]byte("x"))}}},
		"hash":                {build.SignatureList(imageHash, nil, owned(hash[:])), "0 certificates, 1 hashes", []eventlog.KeyEntry{{Type: eventlog.EntrySHA256, Owner: nobody, Digest: hex.EncodeToString(hash[:])}}},
		"hash of 20 bytes":    {build.SignatureList(imageHash, nil, owned(hash[:20])), "0 certificates, 0 hashes, 1 others", []eventlog.KeyEntry{{Type: eventlog.EntryOther, Owner: nobody, Digest: print(hash[:20])}}},
		"another type":        {build.SignatureList(other, nil, owned(hash[:])), "0 certificates, 0 hashes, 1 others", []eventlog.KeyEntry{{Type: eventlog.EntryOther, Owner: nobody, Digest: print(hash[:])}}},
		"an owner alone":      {build.SignatureList(other, nil, owned(nil)), "0 certificates, 0 hashes, 1 others", []eventlog.KeyEntry{{Type: eventlog.EntryOther, Owner: nobody, Digest: print(nil)}}},
		"list without entry":  {noEntry, "0 certificates, 0 hashes", []eventlog.KeyEntry{}},
		"variable of no list": {nil, "0 certificates, 0 hashes", []eventlog.KeyEntry{}},
	} {
		t.Run(name, func(t *testing.T) {
			db := measured(7, eventlog.TypeVariableDriverConfig, build.VariableData(build.ImageSecurity, "db", c.lists))
			store := keyStore(t, bootOf(t, []build.Event{secureBootVariable(1), db, separator(7)}), "db")
			if !store.Proved() || store.String() != c.says {
				t.Errorf("%s, proved %v", store, store.Proved())
			}
			if diff := cmp.Diff(c.want, store.Entries()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
