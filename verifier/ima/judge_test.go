package ima_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func compile(t *testing.T, sets ...ima.Allow) *ima.Rules {
	t.Helper()
	rules, problems := ima.Compile(sets...)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return rules
}

func sum(content string) string {
	h := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(h[:])
}

// allowed returns by what the last entry is allowed.
func allowed(t *testing.T, rules *ima.Rules, e build.Entry) ima.File {
	t.Helper()
	list, err := ima.Parse(build.New(e).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for f := range list.Files(3, rules) {
		return f
	}
	t.Fatal("no entry")
	return ima.File{}
}

// TestRules: what allows a file, and what looks as if it did.
func TestRules(t *testing.T) {
	rules := compile(t, ima.Allow{
		Digests: []string{sum("sh"), sum("su") + " /usr/bin/su", sum("su") + " /bin/su", "verity:" + sum("root")},
		Paths:   []string{`/etc/[a-z]+\.conf`, `/var/a|/var/b`, `(?i)/opt/x`, `/proc/.*`},
		Buffers: []string{`\.ima|kexec-cmdline`},
	})
	verity := func(root string) build.Entry {
		return build.Measured("ima-ngv2", build.Fields(append([]byte("verity:"), build.Digest([]byte(root))...), build.Name("/x")))
	}
	sha1Of := func(content string) build.Entry {
		h := sha1.Sum([]byte(content))
		return build.Measured("ima-ng", build.Fields(append([]byte("sha1:\x00"), h[:]...), build.Name("/bin/sh")))
	}
	for what, tc := range map[string]struct {
		entry build.Entry
		by    string
	}{
		"digest":                  {build.File("/anywhere", []byte("sh")), "digest"},
		"digest_odd_path":         {build.File("memfd:x", []byte("sh")), "digest"},
		"other_digest":            {build.File("/bin/sh", []byte("sh2")), ""},
		"bound":                   {build.File("/usr/bin/su", []byte("su")), "digest and path"},
		"bound_second":            {build.File("/bin/su", []byte("su")), "digest and path"},
		"bound_elsewhere":         {build.File("/tmp/su", []byte("su")), ""},
		"path":                    {build.File("/etc/a.conf", nil), "path rule"},
		"path_first_alternative":  {build.File("/var/a", nil), "path rule"},
		"path_second_alternative": {build.File("/var/b", nil), "path rule"},
		"path_flag":               {build.File("/OPT/X", nil), "path rule"},
		"path_longer":             {build.File("/etc/a.confx", nil), ""},
		"path_before":             {build.File("/x/etc/a.conf", nil), ""},
		"alternative_longer":      {build.File("/var/ab", nil), ""},
		"alternative_before":      {build.File("/x/var/b", nil), ""},
		"dot_is_a_dot":            {build.File("/etc/aXconf", nil), ""},
		"dot_dot":                 {build.File("/proc/../bin/x", nil), ""},
		"dot_dot_last":            {build.File("/proc/..", nil), ""},
		"dot":                     {build.File("/proc/./x", nil), ""},
		"double_slash":            {build.File("/proc//x", nil), ""},
		"slash_last":              {build.File("/proc/x/", nil), ""},
		"dots_in_a_name":          {build.File("/proc/..x/...", nil), "path rule"},
		"line_end":                {build.File("/var/a\r", nil), ""},
		"verity":                  {verity("root"), "digest"},
		"verity_is_no_file":       {build.File("/x", []byte("root")), ""},
		"file_is_no_verity":       {verity("sh"), ""},
		"sha1":                    {sha1Of("sh"), ""},
		"buffer":                  {build.Buffer(".ima", []byte("key")), "buffer rule"},
		"buffer_digest":           {build.Buffer("selinux", []byte("sh")), "digest"},
		"buffer_longer":           {build.Buffer("x.ima", []byte("key")), ""},
		"buffer_is_no_path":       {build.Buffer("/proc/x", []byte("key")), ""},
		"path_is_no_buffer":       {build.File(".ima", nil), ""},
		"aggregate":               {build.File("boot_aggregate", nil), ""},
	} {
		t.Run(what, func(t *testing.T) {
			f := allowed(t, rules, tc.entry)
			if f.Allowed != tc.by || (f.Offence == "") != (tc.by != "" || what == "aggregate") {
				t.Errorf("allowed by %q (%s), want %q", f.Allowed, f.Offence, tc.by)
			}
		})
	}
	for what, says := range map[string]string{"bound_elsewhere": "under another path", "buffer_longer": "is no listed data", "dot_dot": "not one that path rules apply to"} {
		e := map[string]build.Entry{"bound_elsewhere": build.File("/tmp/su", []byte("su")), "buffer_longer": build.Buffer("x.ima", nil), "dot_dot": build.File("/a/..", nil)}[what]
		if f := allowed(t, rules, e); !strings.Contains(f.Offence, says) {
			t.Errorf("%s: %s", what, f.Offence)
		}
	}
	for name, digests := range map[string][]string{"first": {sum("sh"), sum("sh") + " /a"}, "last": {sum("sh") + " /a", sum("sh")}} {
		if f := allowed(t, compile(t, ima.Allow{Digests: digests}), build.File("/b", []byte("sh"))); f.Allowed != "digest" {
			t.Errorf("without a path %s: %s", name, f.Offence)
		}
	}
	content := sha256.Sum256([]byte("sh"))
	ripe := build.Measured("ima-ng", build.Fields(append([]byte("rmd256:\x00"), content[:]...), build.Name("/a")))
	if f := allowed(t, rules, ripe); f.Allowed != "" || f.Digest != "rmd256:"+hex.EncodeToString(content[:]) {
		t.Errorf("a digest of another algorithm is %s, allowed by %q", f.Digest, f.Allowed)
	}
	if f := allowed(t, compile(t, ima.Allow{}), build.File("/a", nil)); f.Allowed != "" || f.Offence == "" {
		t.Error("no rules allow a file")
	}
}

// TestCompileRefuses what could allow more than it says.
func TestCompileRefuses(t *testing.T) {
	_, p256 := publicKey(t, ecKey(t, elliptic.P256()))
	for what, set := range map[string]ima.Allow{
		"sha1":              {Digests: []string{"sha1:" + strings.Repeat("0", 40)}},
		"no_algorithm":      {Digests: []string{strings.Repeat("0", 64)}},
		"upper_case":        {Digests: []string{strings.ToUpper(sum("x")[7:])}},
		"upper_case_hex":    {Digests: []string{"sha256:" + strings.ToUpper(sum("x")[7:])}},
		"short":             {Digests: []string{sum("x")[:70]}},
		"not_hex":           {Digests: []string{"sha256:" + strings.Repeat("x", 64)}},
		"relative_path":     {Digests: []string{sum("x") + " bin/x"}},
		"path_with_dots":    {Digests: []string{sum("x") + " /a/../b"}},
		"path_empty":        {Digests: []string{sum("x") + " "}},
		"two_spaces":        {Digests: []string{sum("x") + "  /a"}},
		"root":              {Digests: []string{sum("x") + " /"}},
		"expression":        {Paths: []string{"/a("}},
		"buffer_expression": {Buffers: []string{"a("}},
		"leaves_the_anchor": {Paths: []string{"/a)|(?:/b"}},
		"more_than_hex":     {Digests: []string{sum("x") + "zz"}},
		"a_byte_short":      {Digests: []string{sum("x")[:69]}},
		"key_of_nothing":    {Keys: []string{""}},
		"rsa_8193":          {Keys: []string{hugeKey(t, 8193)}},
		"closes_the_anchor": {Paths: []string{"/a)|(?:.*"}},
		"matches_nothing":   {Paths: []string{".*"}},
		"empty":             {Paths: []string{""}},
		"long":              {Paths: []string{"/" + strings.Repeat("a", 255)}},
		"too_many":          {Buffers: repeat("a", 65)},
		"too_many_keys":     {Keys: repeat(p256, 17)},
		"no_pem":            {Keys: []string{"key"}},
		"two_blocks":        {Keys: []string{p256 + p256}},
		"private_key":       {Keys: []string{strings.ReplaceAll(p256, "PUBLIC", "PRIVATE")}},
		"broken_key":        {Keys: []string{pemOf("PUBLIC KEY", []byte("x"))}},
		"broken_cert":       {Keys: []string{pemOf("CERTIFICATE", []byte("x"))}},
		"ed25519":           {Keys: []string{ed25519Key(t)}},
		"p224":              {Keys: []string{second(publicKey(t, ecKey(t, elliptic.P224())))}},
	} {
		t.Run(what, func(t *testing.T) {
			rules, problems := ima.Compile(ima.Allow{}, set)
			if rules != nil || len(problems) == 0 {
				t.Fatal("compiled")
			}
			p := problems[0]
			if p.Set != 1 || p.Member == "" || p.Text == "" {
				t.Errorf("%+v", p)
			}
			if unread := strings.Contains(p.Text, "no public key that can be read"); unread != (what == "broken_key") {
				t.Error(p.Text)
			}
		})
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, problems := ima.Compile(ima.Allow{Keys: []string{second(publicKey(t, small))}}); len(problems) != 1 {
		t.Error("RSA-1024 compiled")
	}
	full := ima.Allow{Paths: repeat("/"+strings.Repeat("a", 254), 64), Keys: append(repeat(p256, 15), hugeKey(t, 8192))}
	if _, problems := ima.Compile(full); len(problems) != 0 {
		t.Error(problems)
	}
}

// hugeKey is an RSA key of so many bits that signs nothing.
func hugeKey(t *testing.T, bits uint) string {
	t.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("PUBLIC KEY", der)
}

func repeat(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func second[A, B any](_ A, b B) B { return b }

// TestRulesDigest names what the rules say, not how it is written.
func TestRulesDigest(t *testing.T) {
	a := compile(t, ima.Allow{Digests: []string{sum("a"), sum("b")}}, ima.Allow{Paths: []string{"/x"}})
	b := compile(t, ima.Allow{Paths: []string{"/x"}, Digests: []string{sum("b"), sum("a"), sum("a")}})
	if a.Digest() != b.Digest() {
		t.Error("one content, two names")
	}
	names := map[string]bool{a.Digest(): true, (*ima.Rules)(nil).Digest(): true}
	for _, set := range []ima.Allow{{}, {Paths: []string{"/x"}}, {Buffers: []string{"/x"}}, {Paths: []string{"/x", "/y"}}, {Paths: []string{"/x/y"}}, {Paths: []string{"/y"}}} {
		d := compile(t, set).Digest()
		if names[d] {
			t.Errorf("two contents are called %s", d)
		}
		names[d] = true
	}
}

func ecKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ed25519Key(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("PUBLIC KEY", der)
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// publicKey returns the kernel's id of a key and its PEM.
func publicKey(t *testing.T, key crypto.Signer) (uint32, string) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	// The bit string is the end of the DER: a point of an EC key.
	var bits []byte
	switch pub := key.Public().(type) {
	case *ecdsa.PublicKey:
		if pub.Curve == elliptic.P224() {
			return 0, pemOf("PUBLIC KEY", der)
		}
		point, err := pub.ECDH()
		if err != nil {
			t.Fatal(err)
		}
		bits = point.Bytes()
	case *rsa.PublicKey:
		bits = x509.MarshalPKCS1PublicKey(pub)
	}
	h := sha1.Sum(bits)
	return uint32(h[16])<<24 | uint32(h[17])<<16 | uint32(h[18])<<8 | uint32(h[19]), pemOf("PUBLIC KEY", der)
}

// TestSignedFiles: a file counts by the signature in security.ima, and only by
// one of a listed key over the digest that was measured.
func TestSignedFiles(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"rsa": rsaKey, "p256": ecKey(t, elliptic.P256()), "p384": ecKey(t, elliptic.P384())} {
		t.Run(name, func(t *testing.T) { signedFiles(t, key) })
	}
}

func signedFiles(t *testing.T, key crypto.Signer) {
	id, pemText := publicKey(t, key)
	rules := compile(t, ima.Allow{Keys: []string{pemText}})
	good, err := build.Xattr(rand.Reader, key, id, []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	root := sha256.Sum256([]byte("root"))
	v3, err := build.VerityXattr(rand.Reader, key, id, root)
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, b byte) []byte {
		out := append([]byte(nil), good...)
		out[at] = b
		return out
	}
	verity := func(sig []byte) build.Entry {
		return build.Measured("ima-sigv2", build.Fields(append([]byte("verity:sha256:\x00"), root[:]...), build.Name("/v"), sig))
	}
	plain := func(sig []byte) build.Entry {
		return build.Measured("ima-sig", build.Fields(append([]byte("sha256:\x00"), root[:]...), build.Name("/v"), sig))
	}
	for what, tc := range map[string]struct {
		entry build.Entry
		why   string
	}{
		"good":             {build.Signed("/a", []byte("content"), good), ""},
		"any_path":         {build.Signed("memfd", []byte("content"), good), ""},
		"modsig":           {build.Measured("ima-modsig", build.Fields(build.Digest([]byte("content")), build.Name("/a"), good, nil, nil)), ""},
		"verity":           {verity(v3), ""},
		"other_content":    {build.Signed("/a", []byte("other"), good), "did not make"},
		"other_id":         {build.Signed("/a", []byte("content"), change(3, good[3]^1)), "key that is not listed"},
		"bit":              {build.Signed("/a", []byte("content"), change(len(good)-1, good[len(good)-1]^1)), "did not make"},
		"longer":           {build.Signed("/a", []byte("content"), append(change(0, 3), 0)), "impossible form"},
		"shorter":          {build.Signed("/a", []byte("content"), good[:len(good)-1]), "impossible form"},
		"head_only":        {build.Signed("/a", []byte("content"), good[:8]), "impossible form"},
		"none":             {build.Signed("/a", []byte("content"), nil), "no digest list"},
		"plain_hash":       {build.Signed("/a", []byte("content"), change(0, 1)), "no signature over its content"},
		"evm":              {build.Signed("/a", []byte("content"), change(0, 5)), "no signature over its content"},
		"version_1":        {build.Signed("/a", []byte("content"), change(1, 1)), "version that is not known"},
		"version_3":        {build.Signed("/a", []byte("content"), change(1, 3)), "did not make"},
		"sha1":             {build.Signed("/a", []byte("content"), change(2, 2)), "algorithm that is not accepted"},
		"sha512":           {build.Signed("/a", []byte("content"), change(2, 6)), "another hash algorithm"},
		"verity_version_2": {verity(overRoot(t, key, id, root)), "version that is not known"},
		"no_signature":     {build.Signed("/a", []byte("content"), append(change(0, 3)[:7:7], 0, 0)), "did not make"},
		"verity_as_file":   {plain(v3), "another kind of digest"},
		"file_as_verity":   {verity(good), "another kind of digest"},
	} {
		t.Run(what, func(t *testing.T) {
			f := allowed(t, rules, tc.entry)
			if tc.why == "" && f.Allowed != "signature" {
				t.Errorf("allowed by %q: %s", f.Allowed, f.Offence)
			}
			if tc.why != "" && (f.Allowed != "" || !strings.Contains(f.Offence, tc.why)) {
				t.Errorf("allowed by %q: %s, want %q", f.Allowed, f.Offence, tc.why)
			}
		})
	}
	if f := allowed(t, compile(t, ima.Allow{}), build.Signed("/a", []byte("content"), good)); f.Allowed != "" || !f.Signed || !strings.Contains(f.Offence, "no digest list") {
		t.Errorf("a signature of nobody counts: %s", f.Offence)
	}
	// The next file has the digest of a signed one, and no signature of its own.
	l := build.New(build.Aggregate(firmware()), build.Signed("/a", []byte("content"), good), build.File("/b", []byte("content")))
	if j, err := attest(t, l.Bytes(), quoted(l.Extends())).Judge(rules); err != nil || j.Denied != 1 || j.First[0].Path != "/b" {
		t.Errorf("%+v (%v)", j, err)
	}
}

// overRoot is a signature over the root of fs-verity itself, as version 2 would
// have it: it could be read as one over a file's content.
func overRoot(t *testing.T, key crypto.Signer, id uint32, root [32]byte) []byte {
	t.Helper()
	sig, err := key.Sign(rand.Reader, root[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	head := []byte{6, 2, 4, byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id), byte(len(sig) >> 8), byte(len(sig))}
	return append(head, sig...)
}

// TestCertificateKeyID: the end of the subject key identifier, or of the hash of
// the key: both are in use.
func TestCertificateKeyID(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	id, _ := publicKey(t, key)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "files"}, NotAfter: time.Unix(1, 0), SubjectKeyId: []byte{9, 9, 0xca, 0xfe, 0xba, 0xbe}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	rules := compile(t, ima.Allow{Keys: []string{pemOf("CERTIFICATE", der)}})
	template.SubjectKeyId = []byte{0xde, 0xad, 0xbe, 0xef}
	brief, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	briefRules := compile(t, ima.Allow{Keys: []string{pemOf("CERTIFICATE", brief)}})
	xattr, err := build.Xattr(rand.Reader, key, 0xdeadbeef, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if f := allowed(t, briefRules, build.Signed("/a", []byte("x"), xattr)); f.Allowed != "signature" {
		t.Errorf("an identifier of four bytes: %s", f.Offence)
	}
	for _, id := range []uint32{id, 0xcafebabe} {
		xattr, err := build.Xattr(rand.Reader, key, id, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if f := allowed(t, rules, build.Signed("/a", []byte("x"), xattr)); f.Allowed != "signature" {
			t.Errorf("%08x: %s", id, f.Offence)
		}
	}
}

// TestForgedSignaturesEnd: a host cannot buy endless work with bad signatures.
func TestForgedSignaturesEnd(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	id, pemText := publicKey(t, key)
	entries := []build.Entry{build.Aggregate(firmware())}
	for i := range 70 {
		content := fmt.Appendf(nil, "%d", i)
		xattr, err := build.Xattr(rand.Reader, key, id, append(content, 'x'))
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, build.Signed("/a", content, xattr))
	}
	good, err := build.Xattr(rand.Reader, key, id, []byte("good"))
	if err != nil {
		t.Fatal(err)
	}
	l := build.New(append(entries, build.Signed("/good", []byte("good"), good))...)
	a := attest(t, l.Bytes(), quoted(l.Extends()))
	rules := compile(t, ima.Allow{Keys: []string{pemText}})
	tooMany := 0
	for f := range a.Files(rules) {
		if strings.Contains(f.Offence, "too many") {
			tooMany++
		}
	}
	if tooMany != 70-64+1 {
		t.Errorf("%d signatures were left unchecked", tooMany)
	}
	if j, err := a.Judge(rules); err != nil || j.Denied != 71 || len(j.First) != 8 {
		t.Errorf("%d denied, %d named (%v)", j.Denied, len(j.First), err)
	}
}

// TestJudge over a boot: only what is new is judged, what was denied stays
// denied until the next boot, and other rules want the whole list.
func TestJudge(t *testing.T) {
	bad := build.File("/tmp/x\x1b[31m", []byte("bad"))
	l := build.New(append(machine(3).Entries(), bad, build.Violation("/v"), machine(0).Entries()[0], build.File("boot_aggregate", []byte("evil")))...)
	all := l.Extends()
	rules := compile(t, ima.Allow{Paths: []string{"/usr/lib/.*"}})

	a := attest(t, build.New(l.Entries()[:4]...).Bytes(), quoted(all[:4]))
	j, err := a.Judge(rules)
	if err != nil || j.Files != 3 || j.Denied != 0 || j.Err() != nil || j.Rules != rules.Digest() {
		t.Fatalf("%+v (%v)", j, err)
	}
	state := a.State(j)
	if state.Rules() != rules.Digest() {
		t.Error("the state does not say by which rules")
	}
	rest := ima.Segment{First: 4, Raw: build.New(l.Entries()[4:]...).Bytes()}
	b, err := ima.Attest(rest, state, boot, quoted(all))
	if err != nil {
		t.Fatal(err)
	}
	j, err = b.Judge(rules)
	want := []ima.Denial{
		{Entry: 4, Path: `/tmp/x\x1b[31m`, Digest: sum("bad"), Why: "is in no digest list, not signed by a listed key, and no path rule names it"},
		{Entry: 7, Path: "boot_aggregate", Digest: sum("evil"), Why: "is in no digest list, and its path is not one that path rules apply to"},
	}
	if diff := cmp.Diff(want, j.First); err != nil || diff != "" || j.Files != 5 || j.Denied != 2 {
		t.Fatalf("%+v (%v)\n%s", j, err, diff)
	}
	wantCode(t, j.Err(), reason.IMADenied)
	if text := j.Err().Error(); !strings.Contains(text, `entry 4: /tmp/x\x1b[31m (sha256:`) {
		t.Errorf("the refusal does not name the file: %s", text)
	}

	// Nothing new: still denied.
	c, err := ima.Attest(ima.Segment{First: 8}, b.State(j), boot, quoted(all))
	if err != nil {
		t.Fatal(err)
	}
	if k, err := c.Judge(rules); err != nil || k.Denied != 2 || len(k.First) != 2 {
		t.Errorf("%+v (%v)", k, err)
	}
	other := compile(t, ima.Allow{Paths: []string{"/.*"}})
	_, err = c.Judge(other)
	wantCode(t, err, reason.IMAOffset)
	_, err = attestAfter(t, b.State(ima.Judged{}), quoted(all)).Judge(rules)
	wantCode(t, err, reason.IMAOffset)
	whole := attest(t, l.Bytes(), quoted(all))
	if k, err := whole.Judge(other); err != nil || k.Denied != 1 || k.Files != 5 {
		t.Errorf("%+v (%v)", k, err)
	}
}

func attestAfter(t *testing.T, from ima.State, q ima.Quoted) ima.Attested {
	t.Helper()
	a, err := ima.Attest(ima.Segment{First: from.Entries()}, from, boot, q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAggregateIsNoFile: what looks like the boot aggregate is judged as a file,
// unless it is the boot aggregate.
func TestAggregateIsNoFile(t *testing.T) {
	l := build.New(build.Aggregate(firmware()), build.File("/tmp/x", concatenated()), build.File("boot_aggregate", []byte("x")), build.Aggregate(firmware()))
	a := attest(t, l.Bytes(), quoted(l.Extends()))
	if j, err := a.Judge(compile(t, ima.Allow{})); err != nil || j.Files != 2 || j.Denied != 2 {
		t.Errorf("%+v (%v)", j, err)
	}
}

// TestShownPaths: what a host names its files ends on terminals and in records.
func TestShownPaths(t *testing.T) {
	for path, want := range map[string]string{
		"/a ~\x7f\\\xc3": `/a ~\x7f\x5c\xc3`, "/\x1f": `/\x1f`,
		strings.Repeat("x", 200): strings.Repeat("x", 200), strings.Repeat("x", 201): strings.Repeat("x", 200) + "...",
	} {
		if f := allowed(t, nil, build.File(path, nil)); f.Path != want {
			t.Errorf("%q is shown as %s", path, f.Path)
		}
	}
}

// TestAllowable: what a set would say of each entry of a trusted machine.
func TestAllowable(t *testing.T) {
	sha1Field, verity := append([]byte("sha1:\x00"), make([]byte, 20)...), append([]byte("verity:"), build.Digest(nil)...)
	l := build.New(
		build.Aggregate(nil), build.File("/a", nil), build.File("memfd", nil), build.File("/\xff", nil), build.Violation("/v"),
		build.Buffer("a.b", nil), build.Measured("ima-ng", build.Fields(sha1Field, build.Name("/s"))), build.Entry{PCR: 11, Template: "x", Digest: [20]byte{1}},
		build.Measured("ima-ngv2", build.Fields(verity, build.Name("/w"))), build.Aggregate(nil),
	)
	list, err := ima.Parse(l.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for f, text := range list.Allowable() {
		got = append(got, fmt.Sprint(f.Entry, " ", text, " ", f.Buffer))
	}
	aggregate := sha256.Sum256(make([]byte, 320))
	want := []string{
		"1 " + sum("") + " /a false", "2 " + sum("") + " false", "3 " + sum("") + " false", "4  false", `5 a\.b true`, "6  false", "7  false",
		"8 verity:" + sum("") + " /w false", "9 sha256:" + hex.EncodeToString(aggregate[:]) + " false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	headless, err := ima.Parse(build.New(build.File("/first", nil)).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if files := maps.Collect(headless.Allowable()); len(files) != 1 {
		t.Errorf("%d files of a list without a boot aggregate", len(files))
	}
	for range list.Allowable() {
		break
	}
	for range list.Files(0, nil) {
		break
	}
}

// TestJudgedErr names three files and counts the rest.
func TestJudgedErr(t *testing.T) {
	j := ima.Judged{Denied: 12, First: make([]ima.Denial, 8)}
	if text := j.Err().Error(); !strings.HasSuffix(text, "; and 9 more") || strings.Count(text, "entry ") != 3 {
		t.Error(text)
	}
	j = ima.Judged{Denied: 1, First: make([]ima.Denial, 1)}
	if text := j.Err().Error(); strings.Contains(text, "more") {
		t.Error(text)
	}
}

// TestFiles lists every entry for people, also those that are no good.
func TestFiles(t *testing.T) {
	l := build.New(build.File("/a", nil), build.Violation("/v"), build.Entry{PCR: 11, Template: "ima-ng", Data: build.File("/p", nil).Data}, build.Entry{PCR: 10, Template: "n|d", Digest: [20]byte{1}})
	list, err := ima.Parse(l.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var got []ima.File
	for f := range list.Files(5, nil) {
		if f.Offence != "" {
			f.Offence, _, _ = strings.Cut(f.Offence, ":")
		}
		got = append(got, f)
	}
	want := []ima.File{
		{Entry: 5, PCR: 10, Template: "ima-ng", Path: "/a", Digest: sum("")},
		{Entry: 6, PCR: 10, Template: "ima-ng", Path: "/v", Digest: "sha256:" + strings.Repeat("0", 64), Violation: true, Offence: "ima.violation"},
		{Entry: 7, PCR: 11, Template: "ima-ng", Violation: true, Offence: "ima.pcr"},
		{Entry: 8, PCR: 10, Template: "n|d", Offence: "ima.template_unknown"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
