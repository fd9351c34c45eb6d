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
	if out.raw, out.now, err = c.dated(); err != nil {
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
	sets, ok, err := c.keySets()
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, bad("neither jwks nor keys names a file")
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
		for _, keys := range sets {
			out = append(out, jwt.Settings{Name: "verifier", Issuer: issuer, Keys: keys, MaxLifetime: lifetime, Audience: own})
		}
	}
	return out, nil
}

// verified is a token of any format.
type verified interface{ Facts() document.Facts }

// tokenJudge makes the judge of a format of tokens. Default policy comes last: the
// first hazard refuses, and so does another owner than the admitted one.
func tokenJudge(profile jwt.Profile, verify func(*testcase, tokenCase) (verified, error)) judge {
	return func(c *testcase) (facts, error) {
		in, err := c.tokenCase(profile)
		if err != nil {
			return nil, err
		}
		t, err := verify(c, in)
		if err != nil {
			return nil, err
		}
		f := t.Facts()
		if err := refuseHazards(f); err != nil {
			return nil, err
		}
		return instanceFacts(f), c.admits(f)
	}
}

// instanceFacts are what a row may state of the instance of a Google token.
func instanceFacts(f document.Facts) facts {
	out := facts{}
	for _, key := range []string{"project", "zone", "instance_id", "instance_name"} {
		out[key] = strings.Join(append(f.Values("gce."+key), f.Values("gcp."+key)...), "")
	}
	return out
}

var (
	judgeGCEIdentity = tokenJudge(gce.IdentityProfile, func(_ *testcase, in tokenCase) (verified, error) {
		return gce.VerifyIdentity(in.raw, in.want, in.issuers, in.now)
	})
	judgeGCPConfidential = tokenJudge(gce.ConfidentialProfile, func(c *testcase, in tokenCase) (verified, error) {
		return gce.VerifyConfidential(in.raw, in.want, c.get("nonce"), in.issuers, in.now)
	})
	judgeAzureMSI = tokenJudge(azure.MSIProfile, func(_ *testcase, in tokenCase) (verified, error) {
		return azure.VerifyMSI(in.raw, in.want, in.issuers, in.now)
	})
	judgeAzureMAA = tokenJudge(azure.MAAProfile, func(c *testcase, in tokenCase) (verified, error) {
		return azure.VerifyMAA(in.raw, c.get("nonce"), in.want.IssuedAt, in.issuers, in.now)
	})
	judgeK8sPSAT = tokenJudge(k8s.Profile, func(_ *testcase, in tokenCase) (verified, error) {
		return k8s.Verify(in.raw, in.want, in.issuers, in.now)
	})
	judgeEAR = tokenJudge(ear.Profile, func(c *testcase, in tokenCase) (verified, error) {
		return ear.Verify(in.raw, ear.Expect{Nonce: c.get("nonce"), IssuedAt: in.want.IssuedAt}, in.issuers, in.now)
	})
)
