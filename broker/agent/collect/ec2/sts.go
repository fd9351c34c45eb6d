package ec2

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadata"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/ec2"
)

const (
	rolePath       = "/latest/meta-data/iam/security-credentials/"
	regionPath     = "/latest/meta-data/placement/region"
	maxSmall       = 4 << 10
	maxCredentials = 16 << 10

	// The request that AWS will be asked for us. The broker makes it anew from what
	// the document says, so both sides have to know it by heart.
	identityBody    = "Action=GetCallerIdentity&Version=2011-06-15"
	contentType     = "application/x-www-form-urlencoded; charset=utf-8"
	challengeHeader = "x-zonebroker-challenge"
)

// What goes into a path or a host name is checked first: whoever answers in the
// place of the service must not choose what is asked, nor for whom is signed.
var (
	roleName   = regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,64}$`)
	regionName = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$`)
)

// STS collects GetCallerIdentity, signed with the instance's role.
type STS struct {
	Metadata *metadata.Service
	// Now is the clock; AWS takes a request for 15 minutes.
	Now func() time.Time
}

// Format is ec2.sts.
func (STS) Format() string { return verifier.FormatEC2STS }

// Detect asks whether the instance has a role.
func (c STS) Detect(ctx context.Context) collect.Finding {
	role, err := c.role(ctx)
	if err != nil {
		return collect.Missing(c.Format(), "B", err)
	}
	return collect.Yes(c.Format(), "B", "credentials of the instance's role "+role)
}

// Collect signs a request whose header carries the challenge.
func (c STS) Collect(ctx context.Context, bound collect.Bound) (verifier.Item, error) {
	role, err := c.role(ctx)
	if err != nil {
		return verifier.Item{}, err
	}
	key, err := c.credentials(ctx, role)
	if err != nil {
		return verifier.Item{}, err
	}
	region, err := c.Metadata.GetAWS(ctx, regionPath, maxSmall)
	if err != nil {
		return verifier.Item{}, err
	}
	if !regionName.Match(region) {
		return verifier.Item{}, fault("what the metadata service calls the region is none", "")
	}
	host, _, known := ec2.Endpoint("sts", string(region))
	if !known {
		return verifier.Item{}, fault("the region "+string(region)+" is not known", "an agent and a broker of a newer version may know it")
	}
	document, err := json.Marshal(c.signed(key, string(region), host, bound.Value))
	return verifier.Item{Format: c.Format(), Document: document}, err
}

// role returns the name of the role.
func (c STS) role(ctx context.Context) (string, error) {
	if err := c.Metadata.Require(ctx, metadata.AWS); err != nil {
		return "", err
	}
	role, err := c.Metadata.GetAWS(ctx, rolePath, maxSmall)
	if metadata.Status(err) == http.StatusNotFound {
		return "", fault("this instance has no role", "attach an instance profile; the role needs no permission")
	}
	if err != nil {
		return "", err
	}
	if !roleName.Match(role) {
		return "", fault("what the metadata service calls the role is none", "")
	}
	return string(role), nil
}

func (c STS) credentials(ctx context.Context, role string) (credentials, error) {
	text, err := c.Metadata.GetAWS(ctx, rolePath+role, maxCredentials)
	if err != nil {
		return credentials{}, err
	}
	var got struct {
		Code            string
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		Token           string
	}
	if err := json.Unmarshal(text, &got); err != nil {
		return credentials{}, fault("what the metadata service gives as credentials is no JSON", "") // its text stays out
	}
	if got.Code != "Success" || got.AccessKeyID == "" || got.SecretAccessKey == "" || got.Token == "" {
		return credentials{}, fault("the metadata service has no credentials for the role", "look at the trust policy of the role: ec2.amazonaws.com has to be able to assume it")
	}
	return credentials{got.AccessKeyID, got.SecretAccessKey, got.Token}, nil
}

// document is what the broker needs to make the request anew.
type document struct {
	Region        string `json:"region"`
	AccessKeyID   string `json:"access_key_id"`
	AmzDate       string `json:"amz_date"`
	SecurityToken string `json:"security_token"`
	SignedHeaders string `json:"signed_headers"`
	Signature     string `json:"signature"`
}

func (c STS) signed(key credentials, region, host string, bound [32]byte) document {
	now := c.Now().UTC()
	r := request{
		method: http.MethodPost, region: region, service: "sts", date: now, body: identityBody,
		headers: map[string]string{
			"content-type":         contentType,
			"host":                 host,
			"x-amz-date":           now.Format(amzTime),
			"x-amz-security-token": key.Token,
			challengeHeader:        base64.RawURLEncoding.EncodeToString(bound[:]),
		},
	}
	return document{region, key.AccessKeyID, now.Format(amzTime), key.Token, strings.Join(r.signed(), ";"), r.sign(key.SecretAccessKey)}
}

func fault(why, fix string) error {
	return &collect.Error{What: "sign a request to AWS", Why: why, Fix: fix}
}
