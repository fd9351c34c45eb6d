package given_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/given"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

var bound = collect.Bound{Value: [32]byte{1}, Primary: [32]byte{2}}

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func source(t *testing.T, text string) given.Source {
	t.Helper()
	s, err := given.ParseSource(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestProjectedTokenIsReadAnew(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, given.DefaultTokenFile)
	c := given.PSAT{Path: given.DefaultTokenFile, Root: root}
	if f := c.Detect(t.Context()); f.Able || f.Fix != "" {
		t.Errorf("outside a cluster: %+v", f)
	}
	if err := os.MkdirAll(filepath.Join(root, "/var/run/secrets/kubernetes.io"), 0o755); err != nil {
		t.Fatal(err)
	}
	if f := c.Detect(t.Context()); f.Able || f.Fix == "" {
		t.Errorf("in a pod without the volume: %+v", f)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"a.b.c", "d.e.f"} {
		if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		item, err := c.Collect(t.Context(), bound)
		if err != nil || string(item.Document) != token {
			t.Errorf("%q, %v", item.Document, err)
		}
	}
	if f := c.Detect(t.Context()); !f.Able || f.Class != "C" {
		t.Errorf("%+v", f)
	}
	if err := os.WriteFile(path, make([]byte, 17<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Collect(t.Context(), bound); !errors.Is(err, collect.ErrTooLarge) {
		t.Errorf("%v", err)
	}
}

func TestProgramIsToldTheChallengeWithoutAShell(t *testing.T) {
	program := write(t, "token", "#!/bin/sh\nprintf '%s\\n' \"$#\" \"$@\"\n", 0o755)
	c := given.EAR(source(t, "exec:"+program+" --nonce={nonce} ; rm $HOME"))
	if f := c.Detect(t.Context()); !f.Able || f.Class != "B" {
		t.Fatalf("%+v", f)
	}
	item, err := c.Collect(t.Context(), bound)
	const nonce = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	if want := "4\n--nonce=" + nonce + "\n;\nrm\n$HOME"; err != nil || string(item.Document) != want {
		t.Errorf("%q, %v", item.Document, err)
	}
}

// TestSourceThatIsNotToldTheChallenge: a broker refuses what it has, with the code
// that a person is told here, and everything beside it.
func TestSourceThatIsNotToldTheChallenge(t *testing.T) {
	program := write(t, "token", "#!/bin/sh\necho token\n", 0o755)
	collectors := func(s given.Source) map[reason.Code]collect.Collector {
		return map[reason.Code]collect.Collector{
			reason.EARNonceMismatch: given.EAR(s), reason.AzureNonceMismatch: given.MAA(s), reason.NvidiaNonceMismatch: given.GPU{Source: s},
		}
	}
	for text, told := range map[string]bool{
		write(t, "ear.jwt", "x", 0o600): false, "exec:" + program: false, "exec:" + program + " {nonce}": true,
	} {
		for code, c := range collectors(source(t, text)) {
			f := c.Detect(t.Context())
			if f.Able != told || f.Class != "B" || !told && (!strings.Contains(f.Why, string(code)) || !strings.Contains(f.Fix, "{nonce}")) {
				t.Errorf("%s: %+v", text, f)
			}
			if _, err := c.Collect(t.Context(), bound); (err == nil) != told {
				t.Errorf("%s, %s: %v", c.Format(), text, err)
			}
		}
	}
	for name, text := range map[string]string{"missing": "/nonexistent/ear", "a folder": t.TempDir(), "no program": "exec:" + write(t, "x", "", 0o600) + " {nonce}", "nothing": ""} {
		for _, c := range collectors(source(t, text)) {
			if f := c.Detect(t.Context()); f.Able || !strings.Contains(f.Fix, "--") {
				t.Errorf("%s: %+v", name, f)
			}
			if _, err := c.Collect(t.Context(), bound); err == nil {
				t.Errorf("%s: collected", name)
			}
		}
	}
}

func TestProgramThatMisbehaves(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"fails":          {"echo first >&2; echo 'no GPU here' >&2; exit 3", "no GPU here"},
		"floods":         {"while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", "more than"},
		"says nothing":   {"echo '   '", "gave nothing"},
		"shouts":         {"i=0; while [ $i -lt 3000 ]; do echo eeeeeeeeeeee >&2; i=$((i+1)); done; exit 1", "exit status 1"},
		"leaves a child": {"sleep 30 & echo token", ""},
	} {
		program := write(t, "p", "#!/bin/sh\n"+c.script+"\n", 0o755)
		began := time.Now()
		item, err := given.MAA(source(t, "exec:"+program+" {nonce}")).Collect(t.Context(), bound)
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s took %s", name, took)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %q, %v", name, item.Document, err)
		}
		if err != nil && len(err.Error()) > 5000 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}

func TestSourceThatIsNone(t *testing.T) {
	for _, text := range []string{"exec:", "exec:  ", "exec:token {nonce}", "exec:./token"} {
		if _, err := given.ParseSource(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// The nonce of a GPU comes from the binding of the whole attestation.
func TestTokenOfTheGPU(t *testing.T) {
	nonce := sha256.Sum256(bound.Primary[:])
	for name, c := range map[string]struct{ script, want string }{
		"as nvattest prints it": {`printf '{"result_code":0,"detached_eat":[["JWT","%s"],{"GPU-0":"j"}]}\n' "$1"`, `[["JWT","` + hex.EncodeToString(nonce[:]) + `"],{"GPU-0":"j"}]`},
		"reports":               {`printf '{"evidences":[{"nonce":"%s"}]}' "$1"`, `[{"nonce":"` + hex.EncodeToString(nonce[:]) + `"}]`},
		"bare":                  {`printf '[["JWT","%s"],{}]' "$1"`, `[["JWT","` + hex.EncodeToString(nonce[:]) + `"],{}]`},
		"without":               {`echo '{"result_code":5}'`, ""},
		"broken":                {`echo '{"detached_eat":'`, ""},
	} {
		program := write(t, "p", "#!/bin/sh\n"+c.script+"\n", 0o755)
		item, err := given.GPU{Source: source(t, "exec:"+program+" {nonce}")}.Collect(t.Context(), bound)
		if string(item.Document) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", name, item.Document, err)
		}
	}
}

func TestJoinToken(t *testing.T) {
	if f := (given.JoinToken{}).Detect(t.Context()); f.Able || f.Fix == "" {
		t.Errorf("%+v", f)
	}
	c := given.JoinToken{Token: "secret"}
	if f := c.Detect(t.Context()); !f.Able || strings.Contains(f.Why, "secret") {
		t.Errorf("%+v", f)
	}
	if item, err := c.Collect(t.Context(), bound); err != nil || item.Format != "jointoken" || len(item.Document) != 0 {
		t.Errorf("%+v, %v", item, err)
	}
}

// issued is a certificate of a test PKI in PEM, with its issuer, and its key.
func issued(t *testing.T, key crypto.Signer, keyPEM *pem.Block) (certificate, private string) {
	t.Helper()
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test PKI"}, IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &ca.PublicKey, ca)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "host 7"}, NotAfter: time.Now().Add(time.Hour)}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), ca)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})...)
	return write(t, "host.pem", string(text), 0o600), write(t, "host.key", string(pem.EncodeToMemory(keyPEM)), 0o600)
}

func keys(t *testing.T) map[string]struct {
	key crypto.Signer
	pem *pem.Block
} {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPKCS8, err := x509.MarshalPKCS8PrivateKey(ed)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]struct {
		key crypto.Signer
		pem *pem.Block
	}{
		"P-384, SEC 1":  {ec, &pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}},
		"P-384, PKCS 8": {ec, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}},
		"Ed25519":       {ed, &pem.Block{Type: "PRIVATE KEY", Bytes: edPKCS8}},
		"RSA, PKCS 1":   {rsaKey, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)}},
	}
}

func TestCertificateProvesItsKey(t *testing.T) {
	for name, k := range keys(t) {
		certificate, private := issued(t, k.key, k.pem)
		c := given.X509PoP{Certificate: certificate, Key: private}
		if f := c.Detect(t.Context()); !f.Able || !strings.Contains(f.Why, "host 7") {
			t.Errorf("%s: %+v", name, f)
		}
		item, err := c.Collect(t.Context(), bound)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		digest := sha256.Sum256(bound.Value[:])
		signature, good := item.Parts["signature"], false
		switch public := k.key.Public().(type) {
		case *ecdsa.PublicKey:
			good = ecdsa.VerifyASN1(public, digest[:], signature)
		case ed25519.PublicKey:
			good = ed25519.Verify(public, bound.Value[:], signature)
		case *rsa.PublicKey:
			good = rsa.VerifyPSS(public, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		if !good {
			t.Errorf("%s: the signature does not verify", name)
		}
		if sent, err := os.ReadFile(certificate); err != nil || string(sent) != string(item.Document) {
			t.Errorf("%s: the document is not the chain: %s", name, item.Document)
		}
	}
}

// A key that others can read is theirs too.
func TestKeyThatOthersCanRead(t *testing.T) {
	k := keys(t)["P-384, SEC 1"]
	certificate, private := issued(t, k.key, k.pem)
	c := given.X509PoP{Certificate: certificate, Key: private}
	for mode, good := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o604: false, 0o602: false} {
		if err := os.Chmod(private, mode); err != nil {
			t.Fatal(err)
		}
		if f := c.Detect(t.Context()); f.Able != good || !good && (f.Fix != "chmod 0600 "+private || !strings.Contains(f.Why, "others can read it")) {
			t.Errorf("mode %04o: %+v", mode, f)
		}
		if _, err := c.Collect(t.Context(), bound); (err == nil) != good {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

func TestCertificateThatCannotProve(t *testing.T) {
	k := keys(t)
	certificate, private := issued(t, k["P-384, SEC 1"].key, k["P-384, SEC 1"].pem)
	_, other := issued(t, k["RSA, PKCS 1"].key, k["RSA, PKCS 1"].pem)
	for name, c := range map[string]given.X509PoP{
		"nothing":         {},
		"key of another":  {Certificate: certificate, Key: other},
		"no key":          {Certificate: certificate, Key: certificate},
		"no certificate":  {Certificate: private, Key: private},
		"missing files":   {Certificate: "/nonexistent", Key: "/nonexistent"},
		"broken key":      {Certificate: certificate, Key: write(t, "k", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o600)},
		"key of no use":   {Certificate: certificate, Key: write(t, "k", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", 0o600)},
		"huge":            {Certificate: write(t, "c", strings.Repeat(" ", 1<<20)+certificate, 0o600), Key: private},
		"certificate raw": {Certificate: write(t, "c", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o600), Key: private},
	} {
		if f := c.Detect(t.Context()); f.Able || f.Fix == "" {
			t.Errorf("%s: %+v", name, f)
		}
		if _, err := c.Collect(t.Context(), bound); err == nil {
			t.Errorf("%s: collected", name)
		}
	}
}
