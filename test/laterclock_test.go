package test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// clockZone ends its evidence within seconds.
const clockZone = `apiVersion: zonebroker/v1
kind: Zone
name: lab
tier: 1
selectors: {any: [{group: rack-7}]}
admit: [inventory]
requires: {class: A, format: [tpm2]}
evidence: {max_age: 4s}
issue: {x509_ttl: 1h, jwt_ttl: 4s, grace: 5s, audiences: [payments-api]}
workloads: [{name: web, uid: 1001}]
`

// TestT53_ClockSteps: while the clock of a running broker jumps, it refuses, or
// what it issues ends with the evidence all the same.
func TestT53_ClockSteps(t *testing.T) {
	c := newCluster(t, laterZone)
	file := filepath.Join(t.TempDir(), "offset")
	step := func(d string) {
		must(t, os.WriteFile(file+".new", []byte(d), 0o600))
		must(t, os.Rename(file+".new", file))
	}
	step("0s")
	p := c.start(t, "ZONEBROKER_CLOCK_OFFSET="+file)
	a := newAsker(t, p, "rack-7")
	if got := a.within(t, p, 10*time.Minute); len(got) > 0 {
		t.Fatalf("refused: %v", got)
	}
	for _, tt := range []struct {
		by   string
		want []reason.Code // of a refusal, beside that of a clock that was found to be off
		must bool
	}{
		{"-5s", nil, false},
		{"-30s", nil, true},
		{"-2h", []reason.Code{reason.AuthInvalid}, true},
		{"30s", nil, false},
		{"4m", nil, false},
		{"6m", []reason.Code{reason.PolicyEvidenceAge}, true},
		{"2h", []reason.Code{reason.PolicyEvidenceAge, reason.AuthInvalid}, true},
	} {
		t.Run(tt.by, func(t *testing.T) {
			step(tt.by)
			got := a.within(t, p, 10*time.Minute)
			for _, code := range got {
				if code != reason.IssuerUnavailable && !slices.Contains(tt.want, code) {
					t.Errorf("refused with %s", code)
				}
			}
			if tt.must && len(got) != 2 {
				t.Errorf("only %v were refused", got)
			}
			step("0s")
			eventually(t, 20*time.Second, "the clock is right again", func() bool {
				refused := a.within(t, p, 10*time.Minute)
				if len(refused) > 0 {
					time.Sleep(400 * time.Millisecond) // the rate of a node is bounded
				}
				return len(refused) == 0
			})
		})
	}
	c.wantWhole(t, p)
}

// TestT53_ReplicasWhoseClocksDiffer: attested by the one that is ahead, asked of
// all: each one stops when its own clock says so, and nothing ends later than
// the attestation says.
func TestT53_ReplicasWhoseClocksDiffer(t *testing.T) {
	const skew = 1200 * time.Millisecond
	c := newCluster(t, clockZone)
	c.append(t, "zonebroker.yaml", fastNodes)
	clocks := map[*replica]time.Duration{
		c.start(t): 0,
		c.start(t, "ZONEBROKER_CLOCK_OFFSET="+skew.String()):  skew,
		c.start(t, "ZONEBROKER_CLOCK_OFFSET=-"+skew.String()): -skew,
	}
	for p := range clocks {
		eventually(t, 20*time.Second, "the CAs of all replicas are published", func() bool {
			bundle, err := spiffebundle.Parse(testTD, publicBundle(t, p))
			must(t, err)
			return len(bundle.X509Authorities()) == len(clocks) && len(bundle.JWTAuthorities()) == 2*len(clocks)
		})
	}
	for first, offset := range clocks {
		t.Run(offset.String(), func(t *testing.T) {
			t.Parallel()
			a := newAsker(t, first, "rack-7")
			for ended := 0; ended < len(clocks); time.Sleep(250 * time.Millisecond) {
				ended = 0
				for p, ahead := range clocks {
					mustEnd := !time.Now().Add(ahead).Before(a.res.FreshUntil)
					got := a.within(t, p, 5*time.Second)
					if len(got) == 2 {
						ended++
					}
					if mustEnd && len(got) != 2 || slices.ContainsFunc(got, func(c reason.Code) bool { return c != reason.PolicyEvidenceAge }) {
						t.Fatalf("%s after the evidence by a clock %s ahead: refused %v", time.Now().Add(ahead).Sub(a.res.FreshUntil), ahead, got)
					}
				}
			}
		})
	}
	t.Cleanup(func() {
		for p := range clocks {
			c.wantWhole(t, p)
		}
	})
}

// within asks for one SVID of each kind, holds what it gets against the
// attestation behind it, and returns the codes of refusals.
func (a *asker) within(t *testing.T, p *replica, grace time.Duration) (refused []reason.Code) {
	t.Helper()
	conn := a.at(t, p)
	defer conn.Close()
	if res, err := askSVID(t, conn, "web"); err != nil {
		refused = append(refused, reason.Of(err))
	} else {
		a.x509Ends(t, res, grace)
	}
	if res, err := askJWT(t, conn, "web"); err != nil {
		refused = append(refused, reason.Of(err))
	} else {
		a.jwtEnds(t, res, jwtBundle(t, conn))
	}
	return refused
}

func (a *asker) x509Ends(t *testing.T, res api.SVIDResponse, grace time.Duration) {
	t.Helper()
	leaf, err := x509.ParseCertificate(res.Chain[0])
	must(t, err)
	own, err := x509.ParseCertificate(a.res.Chain[0])
	must(t, err)
	claims, err := claim.FromCertificateInsecure(leaf)
	must(t, err)
	fresh := time.Unix(a.res.FreshUntil.Unix(), 0)
	if leaf.NotAfter.After(fresh.Add(grace)) || leaf.NotAfter.After(own.NotAfter) || claims.Expires != leaf.NotAfter.Unix() ||
		claims.Zone.FreshUntil != fresh.Unix() || claims.Zone.AttestedAt != a.res.AttestedAt.Unix() || claims.Zone.AttestationID != a.res.AttestationID {
		t.Errorf("ends %s, says %d, fresh until %d; the evidence until %s", leaf.NotAfter, claims.Expires, claims.Zone.FreshUntil, fresh)
	}
}

// publicBundle reads the bundle document without a certificate.
func publicBundle(t *testing.T, p *replica) []byte {
	t.Helper()
	status, doc := caller{client: showing(t, nil), base: p.url}.ask(t, "GET", "/spiffe/bundle.json", "")
	if status != 200 {
		t.Fatalf("%d %s", status, doc)
	}
	return doc
}
