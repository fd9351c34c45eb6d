package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	eventlog "github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const zoneOfFiles = `apiVersion: zonebroker/v1
kind: Zone
name: measured
tier: 3
selectors: {any: [{group: rack-7}]}
admit: [inventory]
requires: {class: A, format: [tpm2], secure_boot: true, ima: {files: [base]}}
evidence: {max_age: 5m}
issue: {x509_ttl: 1h, grace: 10m}
`

// kernel is a host whose kernel measures files into PCR 10 of a real software
// TPM and lists them.
type kernel struct {
	*host
	entries []build.Entry
}

func newKernel(t testing.TB, r *rig) *kernel {
	t.Helper()
	k := &kernel{host: newHost(t, r)}
	k.list = filepath.Join(k.dir, "binary_runtime_measurements")
	k.restart()
	return k
}

// restart boots the machine and begins a list with the boot aggregate over what
// the TPM has then.
func (k *kernel) restart() {
	k.t.Helper()
	log := eventlog.Machine{}.Log()
	k.boot(log)
	pcrs := map[int][]byte{}
	for i := range 10 {
		pcrs[i] = make([]byte, sha256.Size)
	}
	for _, e := range log.Extends() {
		if e.PCR < 10 {
			h := sha256.Sum256(append(pcrs[e.PCR], e.SHA256[:]...))
			pcrs[e.PCR] = h[:]
		}
	}
	k.entries = nil
	k.measure(build.Aggregate(pcrs))
}

// measure has the kernel measure files: the list first, then PCR 10.
func (k *kernel) measure(entries ...build.Entry) {
	k.t.Helper()
	k.enter(entries...)
	k.extend(entries...)
}

func (k *kernel) enter(entries ...build.Entry) {
	k.t.Helper()
	k.entries = append(k.entries, entries...)
	k.write(k.entries...)
}

func (k *kernel) extend(entries ...build.Entry) {
	k.t.Helper()
	var extends []eventlog.Extend
	for i, with := range build.New(entries...).Extends() {
		extends = append(extends, eventlog.Extend{PCR: 10, SHA1: entries[i].Digest, SHA256: with})
	}
	must(k.t, k.tpm.Boot(k.t.Context(), extends))
}

// write shows another list than the kernel's own.
func (k *kernel) write(entries ...build.Entry) {
	k.t.Helper()
	must(k.t, os.WriteFile(k.list, build.New(entries...).Bytes(), 0o600))
}

// refusedFor attests and wants a refusal; it returns its first reason in words.
func (k *kernel) refusedFor(p *replica, want reason.Code) string {
	k.t.Helper()
	_, err := k.attest(p)
	wantCode(k.t, err, want)
	if r := refusal(err); r != nil && len(r.Reasons) > 0 {
		return r.Reasons[0].Detail
	}
	return ""
}

// TestMeasuredFiles goes through the life of a host of tier 3 with a real TPM, a
// running broker and the agent: a boot, new files, the race between quote and
// list, a list that lacks what was measured.
func TestMeasuredFiles(t *testing.T) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := newCluster(t, zoneOfFiles, fileSetOf(t, signer))
	p := c.start(t)
	k := newKernel(t, c.rig)
	k.admit(p)
	k.measure(build.File("/usr/bin/sh", []byte("sh")), build.Signed("/opt/tool", []byte("tool"), signature(t, signer, "tool")))
	if r := k.mustAttest(p); r.Zone != "measured" || r.Tier != 3 {
		t.Fatalf("zone %s, tier %d", r.Zone, r.Tier)
	}

	k.measure(build.File("/usr/bin/ls", []byte("ls")), build.Buffer(".ima", []byte("key")))
	first := sentFrom(t, p, k.mustAttest(p).AttestationID)
	if first != "3" {
		t.Errorf("the renewal sent the list from entry %q, want 3", first)
	}
	if first = sentFrom(t, p, k.mustAttest(p).AttestationID); first != "5" {
		t.Errorf("with nothing new it sent from entry %q, want 5", first)
	}

	late := build.File("/usr/bin/late", []byte("late"))
	k.enter(late) // listed, and not extended yet when the quote is made
	k.mustAttest(p)
	k.extend(late)
	k.mustAttest(p)

	k.write(k.entries[:4]...)
	if why := k.refusedFor(p, reason.IMATruncated); !strings.Contains(why, "PCR 10") {
		t.Errorf("%q does not name the PCR", why)
	}
}

// TestDeniedFile: a file that nobody allowed ends the zone until the next boot,
// whatever is measured after it.
func TestDeniedFile(t *testing.T) {
	c := newCluster(t, zoneOfFiles, fileSetOf(t, nil))
	p := c.start(t)
	k := newKernel(t, c.rig)
	k.admit(p)
	k.mustAttest(p)
	k.measure(build.File("/tmp/evil", []byte("evil")))
	if why := k.refusedFor(p, reason.IMADenied); !strings.Contains(why, "entry 1: /tmp/evil (sha256:") {
		t.Errorf("%q does not name the file", why)
	}
	k.measure(build.File("/usr/bin/ls", []byte("ls")))
	k.refusedFor(p, reason.IMADenied)

	k.restart()
	if first := sentFrom(t, p, k.mustAttest(p).AttestationID); first != "" {
		t.Errorf("after a reboot it sent from entry %q, want the whole list", first)
	}
	var v api.Verification
	p.ctl(t, &v, "history", "verify")
	if !v.OK {
		t.Errorf("history verify: %+v", v)
	}
}

// TestMeasurementListRefused ends each forgery of a list in a denial with its
// code: the TPM is a real one, and quotes what the case says it measured.
func TestMeasurementListRefused(t *testing.T) {
	c := newCluster(t, zoneOfFiles, fileSetOf(t, nil))
	p := c.start(t)
	for name, tc := range map[string]struct {
		measure build.Entry // nothing where the template is ""
		show    func(k *kernel) []byte
		want    reason.Code
	}{
		"tpm-84_shorter":         {show: func(k *kernel) []byte { return build.New(k.entries[:1]...).Bytes() }, want: reason.IMATruncated},
		"tpm-84_cut":             {show: func(k *kernel) []byte { return k.shown()[:90] }, want: reason.IMATruncated},
		"tpm-85_digest":          {show: func(k *kernel) []byte { return flipped(k.shown(), 4) }, want: reason.IMADigest},
		"tpm-86_violation":       {measure: build.Violation("/usr/bin/sh"), want: reason.IMAViolation},
		"tpm-87_zero_digest":     {measure: build.Entry{PCR: 10, Template: "ima-ng", Data: build.File("/tmp/evil", nil).Data}, want: reason.IMAViolation},
		"tpm-88_template":        {measure: build.Measured("n-ng|d-ng", []byte("x")), want: reason.IMATemplateUnknown},
		"tpm-89_newline_in_path": {measure: build.File("/usr/bin/a\nb", nil), want: reason.IMAEncoding},
		"tpm-89_ascii":           {show: func(k *kernel) []byte { return []byte(strings.Repeat("10 00 ima-ng sha256:00 /a\n", 8)) }, want: reason.IMAEncoding},
		"tpm-90_other_pcr":       {show: func(k *kernel) []byte { return flipped(k.shown(), 0) }, want: reason.IMAPCR},
		"tpm-91_other_boot": {show: func(k *kernel) []byte {
			return build.New(append([]build.Entry{build.Aggregate(nil)}, k.entries[1:]...)...).Bytes()
		}, want: reason.IMABootAggregate},
		"tpm-93_path_trick": {measure: build.File("/usr/bin/../../tmp/evil", nil), want: reason.IMADenied},
		"no_list":           {show: func(*kernel) []byte { return nil }, want: reason.IMAMissing},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKernel(t, c.rig)
			k.admit(p)
			k.measure(build.File("/usr/bin/sh", []byte("sh")))
			if tc.measure.Template != "" {
				k.measure(tc.measure)
			}
			if tc.show != nil {
				must(t, os.WriteFile(k.list, tc.show(k), 0o600))
			}
			k.refusedFor(p, tc.want)
		})
	}
}

func (k *kernel) shown() []byte { return build.New(k.entries...).Bytes() }

func flipped(raw []byte, at int) []byte {
	raw[at] ^= 1
	return raw
}

// sentFrom returns from which entry an attestation sent its list, "" for the
// start, as the history has it.
func sentFrom(t *testing.T, p *replica, id string) string {
	t.Helper()
	records := p.cluster.records(t, ledger.Query{Type: ledger.TypeAttestation})
	at := slices.IndexFunc(records, func(r ledger.Stored) bool { return r.ID.String() == id })
	if at < 0 {
		t.Fatalf("no record %s", id)
	}
	var record struct {
		First string `json:"ima_first"`
	}
	must(t, json.Unmarshal(records[at].Body, &record))
	return record.First
}

// fileSetOf allows /usr/bin and what signer signed.
func fileSetOf(t *testing.T, signer *ecdsa.PrivateKey) string {
	t.Helper()
	doc := "apiVersion: zonebroker/v1\nkind: FileSet\nname: base\npaths: ['/usr/bin/[a-z]+']\nbuffers: ['\\.ima']\n"
	if signer == nil {
		return doc
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	must(t, err)
	text := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	return doc + "keys:\n  - |\n    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n"
}

// signature is security.ima of a file, as evmctl writes it.
func signature(t *testing.T, signer *ecdsa.PrivateKey, content string) []byte {
	t.Helper()
	point, err := signer.PublicKey.ECDH()
	must(t, err)
	id := sha1.Sum(point.Bytes())
	xattr, err := build.Xattr(rand.Reader, signer, binary.BigEndian.Uint32(id[16:]), []byte(content))
	must(t, err)
	return xattr
}
