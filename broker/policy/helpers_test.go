package policy_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/advisory"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// zonePayments is the zone of wire.md.
const zonePayments = `apiVersion: zonebroker/v1
kind: Zone
name: payments
tier: 2
priority: 10
selectors: {any: [{group: rack-7}, {ek_manufacturer: STM, format: tpm2}]}
admit: [inventory, join_token, operator]
requires: {class: A, format: [tpm2], references: [debian-12-6.1], secure_boot: true}
evidence: {max_age: 5m}
issue: {x509_ttl: 1h, jwt_ttl: 5m, grace: 55m, audiences: ["payments-api"]}
workloads:
  - {name: checkout, uid: 1001, path: /usr/bin/checkout, groups: [rack-7]}
  - {name: ledgerd, path: /usr/bin/ledgerd, groups: [rack-9]}
  - {name: any-rack, uid: 0}
`

var (
	digest0 = strings.Repeat("a0", 32)
	digest4 = strings.Repeat("4", 64) // only digits: a number to YAML
	digest7 = strings.Repeat("0", 60) + "1e55"
	kernel  = strings.Repeat("c1", 32)
	initrd  = strings.Repeat("d2", 32)
	other   = strings.Repeat("ee", 32)
)

// referenceDebian is the reference set of wire.md.
var referenceDebian = `apiVersion: zonebroker/v1
kind: ReferenceSet
name: debian-12-6.1
bank: sha256
pcrs: {0: [` + digest0 + `], 4: [` + digest4 + `], 7: [` + digest7 + `]}
events: {9: [` + kernel + `, ` + initrd + `]}
provenance: {learnt_from: node-a, boot: 0197b3c2-0000-7000-8000-000000000001, approved_by: alice}
valid: {not_before: 2026-11-20T00:00:00Z, not_after: 2027-11-20T00:00:00Z}
`

// zoneLab is the smallest zone that loads.
const zoneLab = `apiVersion: zonebroker/v1
kind: Zone
name: lab
tier: 1
selectors: {any: [{group: bench}]}
admit: [any_genuine, operator]
`

func files(docs ...string) []policy.File {
	var out []policy.File
	for i, d := range docs {
		out = append(out, policy.File{Name: string(rune('a'+i)) + ".yaml", Bytes: []byte(d)})
	}
	return out
}

func load(t testing.TB, docs ...string) *policy.Set {
	t.Helper()
	set, problems := policy.Load(files(docs...))
	for _, p := range problems {
		t.Errorf("%s", p)
	}
	if set == nil {
		t.FailNow()
	}
	return set
}

// evidence is what a verifier would have proved.
type evidence struct {
	forged                         bool
	refusals                       []*reason.Error
	format, class, key, boot, made string
	pcrs                           map[int]string
	events                         map[int][]string
	genuine, panics                bool
	unproved                       error
	documents                      []verifier.Document
	kernel                         []string // nil: no command line is proved
	list                           ima.Attested
	expired                        bool
	kind                           string
	firmware                       uint64
	advisories                     []advisory.Advisory
}

func (e *evidence) KernelParameters() ([]string, bool) { return e.kernel, e.kernel != nil }

func (e *evidence) Authentic() bool           { return !e.forged }
func (e *evidence) Refusals() []*reason.Error { return e.refusals }
func (e *evidence) Format() string            { return e.format }
func (e *evidence) BindingClass() string      { return e.class }
func (e *evidence) KeyResidency() string      { return e.key }
func (e *evidence) Manufacturer() string      { return e.made }
func (e *evidence) Genuine() bool             { return e.genuine }
func (e *evidence) IMA() ima.Attested         { return e.list }

func (e *evidence) EKExpired() bool                 { return e.expired }
func (e *evidence) TPMKind() string                 { return e.kind }
func (e *evidence) FirmwareVersion() uint64         { return e.firmware }
func (e *evidence) Advisories() []advisory.Advisory { return e.advisories }

func (e *evidence) Documents() []verifier.Document { return e.documents }
func (e *evidence) SecureBootUnproved() error      { return e.unproved }

func (e *evidence) SecureBoot() string {
	if e.panics {
		panic("a slip in a verifier")
	}
	return e.boot
}

func (e *evidence) PCR(i int) ([]byte, bool) {
	v, ok := e.pcrs[i]
	b, _ := hex.DecodeString(v)
	return b, ok
}

func (e *evidence) EventDigests(pcr int) [][]byte {
	var out [][]byte
	for _, d := range e.events[pcr] {
		b, _ := hex.DecodeString(d)
		out = append(out, b)
	}
	return out
}

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// good is a host that earns payments.
func good() (policy.Input, *evidence) {
	ev := &evidence{
		format: "tpm2", class: "A", key: "tpm", boot: "on", made: "STM", genuine: true,
		pcrs:   map[int]string{0: digest0, 4: digest4, 7: digest7, 9: other},
		events: map[int][]string{9: {other, kernel, initrd}},
	}
	return policy.Input{
		Appraisal:  ev,
		Node:       policy.Node{ID: strings.Repeat("a", 26), Groups: []string{"rack-7"}, AdmittedBy: "inventory", AKApproved: true},
		Now:        now,
		AttestedAt: now.Add(-time.Second),
	}, ev
}

func codes(d policy.Decision) string {
	var b bytes.Buffer
	for i, r := range d.Reasons {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(r.Code))
	}
	return b.String()
}
