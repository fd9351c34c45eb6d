package claim_test

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/claim"
)

// mustAgree: what is written straight is what the library writes and a reader
// takes; what is not is left to the library.
func mustAgree(t *testing.T, c claim.Claims) (direct bool) {
	t.Helper()
	want, err := claim.EncodeByLibrary(c)
	got, ok := claim.Plain(c)
	if ok && (err != nil || !bytes.Equal(got, want)) {
		t.Errorf("got  %s\nwant %s %v", got, want, err)
	}
	return ok
}

// texts stand in every member: plain ones, ones to escape, and what no reader takes.
var texts = []string{
	"", "a", "payments", "a b'c(d)+,-./:=?", `a"b`, `a\b`, "a<b", "a>b", "a&b", "a\x00b", "a\nb", "a\x7fb", "zürich", "a\u2028b",
	"a\xffb", "\U0001f512", "none", "warning", "enforce", "audit", "software", ".", "..", "a/b", strings.Repeat("b", 26), strings.Repeat("1", 26),
	"sha256:" + strings.Repeat("ab", 32), "sha256:" + strings.Repeat("AB", 32), "sha256:" + strings.Repeat("ab", 31) + "g0",
	"sha256:", "0197b3c2-0000-7000-8000-00000000000a", "0197B3C2-0000-7000-8000-00000000000A", "{0197b3c2-0000-7000-8000-000000000001}",
	strings.Repeat("x", 128), strings.Repeat("x", 129), strings.Repeat("x", 255), strings.Repeat("x", 256), strings.Repeat("x", 510), strings.Repeat("x", 511),
}

var numbers = []int64{
	0, 1, -1, 2, 4, 5, 31, 32, 95, 96, 127, 128, -2, -32, -33, -97, -128, -129, 1795262400, 1795262401, 1795262700,
	1<<53 - 1, 1 << 53, -1 << 53, math.MaxInt64, math.MinInt64,
}

func TestPlainIsWhatTheLibraryWrites(t *testing.T) {
	if !mustAgree(t, good()) {
		t.Fatal("the claim of a node is not written straight")
	}
	with := func(edit func(*claim.Claims)) {
		t.Helper()
		c := good()
		edit(&c)
		mustAgree(t, c)
	}
	submod := func(edit func(*claim.Submod)) {
		t.Helper()
		with(func(c *claim.Claims) {
			s := c.Submods[claim.SubmodTPM]
			edit(&s)
			c.Submods[claim.SubmodTPM] = s
		})
	}
	for _, s := range texts {
		with(func(c *claim.Claims) { c.VerifierID.Developer = s })
		with(func(c *claim.Claims) { c.VerifierID.Build = s })
		with(func(c *claim.Claims) { c.Status = claim.Status(s) })
		with(func(c *claim.Claims) { c.Submods[s] = c.Submods[claim.SubmodTPM] })
		with(func(c *claim.Claims) { c.Zone.Name = s })
		with(func(c *claim.Claims) { c.Zone.Node = s })
		with(func(c *claim.Claims) { c.Zone.AttestationID = s })
		with(func(c *claim.Claims) { c.Zone.Evidence = s })
		with(func(c *claim.Claims) { c.Zone.Policy.Hash = s })
		with(func(c *claim.Claims) { c.Zone.Policy.Mode = s })
		with(func(c *claim.Claims) { c.Zone.Key = s })
		with(func(c *claim.Claims) { c.Zone.Exceptions = []string{"x", s} })
		submod(func(m *claim.Submod) { m.Status = claim.Status(s) })
		submod(func(m *claim.Submod) { m.PolicyIDs = []string{s, "x"} })
	}
	for _, n := range numbers {
		with(func(c *claim.Claims) { c.IssuedAt = n })
		with(func(c *claim.Claims) { c.Expires = n })
		with(func(c *claim.Claims) { c.Zone.Tier = int(n) })
		with(func(c *claim.Claims) { c.Zone.Epoch = n })
		with(func(c *claim.Claims) { c.Zone.AttestedAt = n })
		with(func(c *claim.Claims) { c.Zone.FreshUntil = n })
		with(func(c *claim.Claims) { c.Zone.Policy.Version = n })
		submod(func(m *claim.Submod) { m.Vector.InstanceIdentity, m.Status = int(n), claim.StatusNone })
		submod(func(m *claim.Submod) { m.Vector = claim.Vector{FileSystem: int(n)} })
		submod(func(m *claim.Submod) { m.Vector = claim.Vector{Hardware: int(n), Configuration: 2} })
	}
	for _, n := range []int{0, 1, 7, 8, 16, 17, 40} {
		with(func(c *claim.Claims) { c.Zone.Exceptions = strings.Split(strings.Repeat("x", n), "") })
		submod(func(m *claim.Submod) { m.PolicyIDs = strings.Split(strings.Repeat("x", n), "") })
		with(func(c *claim.Claims) {
			for i := range n {
				c.Submods[string(rune('A'+i))] = c.Submods[claim.SubmodTPM]
			}
		})
		with(func(c *claim.Claims) { // beyond 16 KiB
			long := strings.Split(strings.Repeat(strings.Repeat("y", 510)+",", n), ",")
			c.Zone.Exceptions = long[:n]
			for i := range min(n, 7) {
				c.Submods[string(rune('A'+i))] = claim.Submod{Status: claim.StatusNone, PolicyIDs: long[:n]}
			}
		})
	}
	with(func(c *claim.Claims) { c.Submods = nil })
	with(func(c *claim.Claims) { c.Zone.BreakGlass = true })
	submod(func(m *claim.Submod) { *m = claim.Submod{Status: claim.StatusNone} })
}

// FuzzPlain: as above, for values that nobody thought of.
func FuzzPlain(f *testing.F) {
	g := good()
	f.Add("affirming", "https://zonebroker.example", "zonebroker 0.1.0", "tpm", "urn:x", "exception", g.Zone.Name, g.Zone.Node, g.Zone.AttestationID,
		g.Zone.Evidence, "enforce", "tpm", g.IssuedAt, g.Expires, g.Zone.AttestedAt, g.Zone.FreshUntil, int64(41), int64(2), 2, 32, true)
	f.Fuzz(func(t *testing.T, status, developer, build, submod, policy, exception, name, node, id, hash, mode, key string,
		iat, exp, attested, fresh, version, epoch int64, tier, vector int, glass bool,
	) {
		mustAgree(t, claim.Claims{
			VerifierID: claim.VerifierID{Developer: developer, Build: build}, Status: claim.Status(status), IssuedAt: iat, Expires: exp,
			Submods: map[string]claim.Submod{submod: {Status: claim.Status(status), Vector: claim.Vector{Executables: vector}, PolicyIDs: []string{policy}}},
			Zone: claim.Zone{
				Name: name, Tier: tier, Epoch: epoch, Node: node, AttestationID: id, AttestedAt: attested, FreshUntil: fresh, Evidence: hash,
				Policy: claim.Policy{Version: version, Hash: hash, Mode: mode}, Exceptions: []string{exception}, BreakGlass: glass, Key: key,
			},
		})
	})
}

// TestExtensionIsWhatTheLibraryWrites, for every form of the length in DER that
// a claims-set can have.
func TestExtensionIsWhatTheLibraryWrites(t *testing.T) {
	for _, n := range []int{0, 1, 60, 62, 63, 64, 65, 66, 67, 120, 158, 159, 160, 161, 162, 163, 164, 300, 16 << 10} {
		raw := bytes.Repeat([]byte{0xfb}, n)
		record, err := json.Marshal([]any{claim.MediaType, base64.RawURLEncoding.EncodeToString(raw), 8})
		if err != nil {
			t.Fatal(err)
		}
		want, err := asn1.MarshalWithParams(string(record), "utf8")
		if err != nil {
			t.Fatal(err)
		}
		if got := claim.Record(raw); !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got  %.40q\nwant %.40q", n, got, want)
		}
	}
}
