package enrich

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// awsMetadata is where an instance finds the credentials of its role.
const awsMetadata = "169.254.169.254"

// renewBefore is how long before their end temporary credentials are changed.
const renewBefore = 2 * time.Minute

var roleName = regexp.MustCompile(`^[A-Za-z0-9+=,.@_/-]{1,512}$`)

// awsCredentials finds the credentials of this broker, and those of a role in each
// account that it looks into.
type awsCredentials struct {
	file     string  // credentials in JSON; "" for the instance's role
	metadata *caller // of the instance
	sts      *caller
	role     string // to assume in the account of a document; "" for none
	now      func() time.Time

	mu   sync.Mutex         // guards kept
	kept map[string]awsKeys // by account; "" is the broker's own
}

// of returns credentials for an account. They are asked for without the lock: two
// askers at once ask twice, and a slow answer holds nobody else.
func (c *awsCredentials) of(ctx context.Context, account, region string) (awsKeys, error) {
	base, err := c.cached("", func() (awsKeys, error) { return c.own(ctx) })
	if err != nil || c.role == "" {
		return base, err
	}
	return c.cached(account, func() (awsKeys, error) { return c.assume(ctx, base, account, region) })
}

// maxAccounts bounds the credentials that are kept: with an account in each
// document strangers could else fill the memory.
const maxAccounts = 256

func (c *awsCredentials) cached(account string, ask func() (awsKeys, error)) (awsKeys, error) {
	c.mu.Lock()
	keys, known := c.kept[account]
	c.mu.Unlock()
	if known && c.now().Add(renewBefore).Before(keys.Expires) {
		return keys, nil
	}
	keys, err := ask()
	if err != nil || keys.Expires.IsZero() {
		return keys, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil || len(c.kept) >= maxAccounts {
		c.kept = map[string]awsKeys{}
	}
	c.kept[account] = keys
	return keys, nil
}

// own reads the file, or asks the metadata service in its second version.
func (c *awsCredentials) own(ctx context.Context) (awsKeys, error) {
	if c.file != "" {
		raw, err := secret(c.file)
		if err != nil {
			return awsKeys{}, err
		}
		var keys awsKeys
		if err := strictjson.UnmarshalKnown(raw, &keys); err != nil {
			return awsKeys{}, fmt.Errorf("%s: %w", c.file, err)
		}
		return keys, nil
	}
	token, err := c.ask(ctx, http.MethodPut, "/latest/api/token", http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"60"}})
	if err != nil {
		return awsKeys{}, err
	}
	header := http.Header{"X-Aws-Ec2-Metadata-Token": {token}}
	const path = "/latest/meta-data/iam/security-credentials/"
	role, err := c.ask(ctx, http.MethodGet, path, header)
	if err != nil {
		return awsKeys{}, err
	}
	if role = strings.TrimSpace(role); !roleName.MatchString(role) || strings.Contains(role, "/") {
		return awsKeys{}, errors.New("the instance has no role")
	}
	raw, err := c.ask(ctx, http.MethodGet, path+role, header)
	if err != nil {
		return awsKeys{}, err
	}
	var got struct {
		Code, AccessKeyID, SecretAccessKey, Token string
		Expiration                                time.Time
	}
	if err := json.Unmarshal([]byte(raw), &got); err != nil || got.Code != "Success" {
		return awsKeys{}, errors.New("the metadata service has no credentials for the role")
	}
	return awsKeys{got.AccessKeyID, got.SecretAccessKey, got.Token, got.Expiration}, nil
}

func (c *awsCredentials) ask(ctx context.Context, method, path string, header http.Header) (string, error) {
	got, err := c.metadata.send(ctx, request{method: method, host: awsMetadata, path: path, header: header})
	if err != nil {
		return "", fmt.Errorf("metadata service: %w", err)
	}
	if got.status != http.StatusOK {
		return "", fmt.Errorf("metadata service: status %d", got.status)
	}
	return string(got.body), nil
}

// assume takes the role in the account of a document: an instance is looked up
// where it is, and an answer from another account would be no answer.
func (c *awsCredentials) assume(ctx context.Context, base awsKeys, account, region string) (awsKeys, error) {
	host, partition, ok := ec2.Endpoint("sts", region)
	if !ok {
		return awsKeys{}, fmt.Errorf("%s is no region of AWS", region)
	}
	r := request{method: http.MethodPost, host: host, path: "/", header: form(), body: url.Values{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "DurationSeconds": {"900"}, "RoleSessionName": {"zonebroker"},
		"RoleArn": {"arn:" + partition + ":iam::" + account + ":role/" + c.role},
	}.Encode()}
	if err := base.sign(&r, "sts", region, c.now()); err != nil {
		return awsKeys{}, err
	}
	got, err := c.sts.send(ctx, r)
	if err != nil {
		return awsKeys{}, fmt.Errorf("AssumeRole: %w", err)
	}
	if err := got.is(http.StatusOK, "text/xml"); err != nil {
		return awsKeys{}, fmt.Errorf("AssumeRole in account %s: %w", account, err)
	}
	var out struct {
		XMLName xml.Name
		Keys    struct {
			ID      string    `xml:"AccessKeyId"`
			Secret  string    `xml:"SecretAccessKey"`
			Token   string    `xml:"SessionToken"`
			Expires time.Time `xml:"Expiration"`
		} `xml:"AssumeRoleResult>Credentials"`
	}
	if err := xml.Unmarshal(got.body, &out); err != nil || out.XMLName.Local != "AssumeRoleResponse" || out.Keys.ID == "" {
		return awsKeys{}, errors.New("AssumeRole: not an AssumeRoleResponse with credentials")
	}
	return awsKeys{out.Keys.ID, out.Keys.Secret, out.Keys.Token, out.Keys.Expires}, nil
}
