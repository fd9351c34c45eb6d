package enrich

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// awsKeys are credentials of AWS.
type awsKeys struct {
	ID      string    `json:"access_key_id"`
	Secret  string    `json:"secret_access_key"`
	Token   string    `json:"session_token"`
	Expires time.Time `json:"-"` // zero for none
}

// String keeps the secret out of logs.
func (k awsKeys) String() string { return "credentials " + k.ID }

// GoString keeps the secret out of %#v.
func (k awsKeys) GoString() string { return k.String() }

var errKeys = errors.New("credentials of AWS are incomplete")

const (
	awsDate = "20060102"
	awsTime = "20060102T150405Z"
)

// sign adds the headers of AWS Signature Version 4 to a POST of path "/" (IAM User
// Guide, "Create a signed AWS API request").
func (k awsKeys) sign(r *request, service, region string, now time.Time) error {
	if k.ID == "" || k.Secret == "" {
		return errKeys
	}
	now = now.UTC()
	day, at := now.Format(awsDate), now.Format(awsTime)
	r.header.Set("X-Amz-Date", at)
	if k.Token != "" {
		r.header.Set("X-Amz-Security-Token", k.Token)
	}
	canonical, signed := canonicalRequest(r)
	scope := day + "/" + region + "/" + service + "/aws4_request"
	text := "AWS4-HMAC-SHA256\n" + at + "\n" + scope + "\n" + hexSum(canonical)
	key := []byte("AWS4" + k.Secret)
	for _, part := range []string{day, region, service, "aws4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	r.header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+k.ID+"/"+scope+", SignedHeaders="+signed+", Signature="+hex.EncodeToString(key))
	return nil
}

// canonicalRequest writes what is signed: all headers, and the host.
func canonicalRequest(r *request) (canonical, signed string) {
	values := map[string]string{"host": r.host}
	for name := range r.header {
		values[strings.ToLower(name)] = strings.TrimSpace(r.header.Get(name))
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString(r.method + "\n" + r.path + "\n" + r.query + "\n")
	for _, name := range names {
		b.WriteString(name + ":" + values[name] + "\n")
	}
	signed = strings.Join(names, ";")
	b.WriteString("\n" + signed + "\n" + hexSum(r.body))
	return b.String(), signed
}

func hexSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// form is the header of a request with parameters in its body.
func form() http.Header {
	return http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"}}
}
