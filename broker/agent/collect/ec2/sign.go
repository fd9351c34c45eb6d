package ec2

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"
)

// amzTime is the form of X-Amz-Date.
const amzTime = "20060102T150405Z"

// credentials of a role.
type credentials struct{ AccessKeyID, SecretAccessKey, Token string }

// request is what is signed: path "/" and no query. Names of headers are in lower
// case.
type request struct {
	method  string
	region  string
	service string
	date    time.Time
	headers map[string]string
	body    string
}

// sign returns the signature of AWS Signature Version 4 in hex, over all headers of
// r (docs.aws.amazon.com, "Create a signed AWS API request").
func (r request) sign(secret string) string {
	signed := r.signed()
	var canonical strings.Builder
	canonical.WriteString(r.method + "\n/\n\n")
	for _, name := range signed {
		canonical.WriteString(name + ":" + strings.Join(strings.Fields(r.headers[name]), " ") + "\n")
	}
	canonical.WriteString("\n" + strings.Join(signed, ";") + "\n" + hexHash(r.body))

	day := r.date.UTC().Format("20060102")
	scope := day + "/" + r.region + "/" + r.service + "/aws4_request"
	toSign := "AWS4-HMAC-SHA256\n" + r.date.UTC().Format(amzTime) + "\n" + scope + "\n" + hexHash(canonical.String())

	key := []byte("AWS4" + secret)
	for _, part := range []string{day, r.region, r.service, "aws4_request", toSign} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// signed are the names of the headers in their order.
func (r request) signed() []string { return slices.Sorted(maps.Keys(r.headers)) }

func hexHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
