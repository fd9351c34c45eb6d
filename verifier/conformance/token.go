package conformance

import (
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/ear"
	"github.com/zonebroker/zonebroker/verifier/gce"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/k8s"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// tokenCase is what all kinds of tokens need.
type tokenCase struct {
	raw     []byte
	now     time.Time
	want    jwt.Expect
	issuers jwt.Issuers
}

// tokenCase reads the token and what it is judged by: the key set (jwks) or one
// key (keys), the issuers, the audience, when the challenge was made (issued) and
// how long a token may live.
func (c *testcase) tokenCase(profile jwt.Profile) (tokenCase, error) {
	var out tokenCase
	var err error
	if out.raw, err = c.open(c.row.Path); err != nil {
		return out, err
	}
	if out.now, err = c.time(); err != nil {
		return out, err
	}
	out.want.Audience = c.get("audience")
	if c.has("issued") {
		if out.want.IssuedAt, err = time.Parse(time.RFC3339, c.get("issued")); err != nil {
			return out, bad("issued is not RFC 3339")
		}
	}
	settings, err := c.tokenSettings(profile)
	if err != nil {
		return out, err
	}
	if out.issuers, err = jwt.NewIssuers(profile, settings); err != nil {
		return out, bad("%v", err)
	}
	return out, nil
}

// nobody is an issuer that no token can name: no text of JSON is read as it. A row
// that names no issuer has keys and nobody to trust with them.
const nobody = "\xff"

func (c *testcase) tokenSettings(profile jwt.Profile) ([]jwt.Settings, error) {
	name := "jwks"
	if !c.has(name) {
		name = "keys"
	}
	raw, err := c.companion(name)
	if err != nil {
		return nil, err
	}
	if raw == nil {
		if c.none("jwks") || c.none("keys") {
			return nil, nil
		}
		return nil, bad("neither jwks nor keys names a file")
	}
	keys, err := jwt.ParseKeys(raw)
	if err != nil {
		return nil, bad("%s: %v", c.get(name), err)
	}
	var lifetime time.Duration
	if c.has("max_lifetime") {
		if lifetime, err = time.ParseDuration(c.get("max_lifetime")); err != nil || lifetime <= 0 {
			return nil, bad("max_lifetime is not a duration")
		}
	}
	own := ""
	if profile.Format == ear.Profile.Format || profile.Format == azure.MAAProfile.Format { // their tokens have none for a challenge
		own = c.get("audience")
	}
	var out []jwt.Settings
	for issuer := range strings.SplitSeq(c.get("issuer"), ",") {
		if issuer == "" && !profile.Anonymous {
			issuer = nobody
		}
		out = append(out, jwt.Settings{Name: "verifier", Issuer: issuer, Keys: keys, MaxLifetime: lifetime, Audience: own})
	}
	return out, nil
}

// tokenVerdict is what default policy says of a verified token: its first hazard
// refuses, and so does a project other than the admitted one.
func (c *testcase) tokenVerdict(f *document.Facts, project string) (facts, error) {
	if len(f.Hazards) > 0 {
		return nil, reason.New(f.Hazards[0].Code, f.Hazards[0].Detail)
	}
	if want := c.get("project"); want != "" && want != project {
		return nil, reason.New(reason.NodeNotAdmitted, "another project than the admitted one")
	}
	return facts{"project": project}, nil
}

func judgeGCEIdentity(c *testcase) (facts, error) {
	in, err := c.tokenCase(gce.IdentityProfile)
	if err != nil {
		return nil, err
	}
	t, err := gce.VerifyIdentity(in.raw, in.want, in.issuers, in.now)
	if err != nil {
		return nil, err
	}
	f := t.Facts()
	return c.tokenVerdict(&f, t.Project())
}

func judgeGCPConfidential(c *testcase) (facts, error) {
	in, err := c.tokenCase(gce.ConfidentialProfile)
	if err != nil {
		return nil, err
	}
	t, err := gce.VerifyConfidential(in.raw, in.want, c.get("nonce"), in.issuers, in.now)
	if err != nil {
		return nil, err
	}
	f := t.Facts()
	return c.tokenVerdict(&f, t.Project())
}

func judgeAzureMSI(c *testcase) (facts, error) {
	in, err := c.tokenCase(azure.MSIProfile)
	if err != nil {
		return nil, err
	}
	t, err := azure.VerifyMSI(in.raw, in.want, in.issuers, in.now)
	if err != nil {
		return nil, err
	}
	f := t.Facts()
	return c.tokenVerdict(&f, "")
}

func judgeAzureMAA(c *testcase) (facts, error) {
	in, err := c.tokenCase(azure.MAAProfile)
	if err != nil {
		return nil, err
	}
	t, err := azure.VerifyMAA(in.raw, c.get("nonce"), in.want.IssuedAt, in.issuers, in.now)
	if err != nil {
		return nil, err
	}
	f := t.Facts()
	return c.tokenVerdict(&f, "")
}

func judgeK8sPSAT(c *testcase) (facts, error) {
	in, err := c.tokenCase(k8s.Profile)
	if err != nil {
		return nil, err
	}
	t, err := k8s.Verify(in.raw, in.want, in.issuers, in.now)
	if err != nil {
		return nil, err
	}
	f := t.Facts()
	return c.tokenVerdict(&f, "")
}

func judgeEAR(c *testcase) (facts, error) {
	in, err := c.tokenCase(ear.Profile)
	if err != nil {
		return nil, err
	}
	t, err := ear.Verify(in.raw, ear.Expect{Nonce: c.get("nonce"), IssuedAt: in.want.IssuedAt}, in.issuers, in.now)
	if err != nil {
		return nil, err
	}
	f := t.Facts()
	return c.tokenVerdict(&f, "")
}
