package ec2

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// What a GetCallerIdentity request consists of. All of it is written by the
// broker: a request that an agent wrote could ask another service, or ask for
// something else, with the broker as its errand boy.
const (
	// ChallengeHeader carries the bound value in unpadded base64url.
	ChallengeHeader = "x-zonebroker-challenge"
	// STSBody is the whole body.
	STSBody = "Action=GetCallerIdentity&Version=2011-06-15"
	// STSContentType is what the body is.
	STSContentType = "application/x-www-form-urlencoded; charset=utf-8"
	// STSAccept is what is asked for, in a header that is not signed.
	STSAccept = "application/json"

	// MaxRequest bounds the pieces of a request, in bytes; a security token has up
	// to 2 KiB today, and AWS advises to expect more.
	MaxRequest = 16 << 10
	// MaxAnswer bounds the recorded answer, in bytes.
	MaxAnswer = 16 << 10
	// RequestWindow is how far the signed date may be from the broker's clock, and
	// AWS takes it so far itself.
	RequestWindow = 15 * time.Minute
)

var (
	accessKeyID = regexp.MustCompile(`^A[A-Z0-9]{15,127}$`)
	amzDate     = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z$`)
	hexSHA256   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	tokenForm   = regexp.MustCompile(`^[A-Za-z0-9+/=_-]+$`)
)

const amzDateForm = "20060102T150405Z"

// Header is a header of a request, its name in lower case.
type Header struct{ Name, Value string }

// Request is a GetCallerIdentity request for a challenge, rebuilt from what an
// agent signed. The zero value is none.
type Request struct {
	region, host, partition string
	key, date, token        string
	signature, challenge    string
	at                      time.Time
}

// ParseRequest reads what the agent signed, JSON of the members region,
// access_key_id, amz_date (20060102T150405Z), signed_headers (in the order of
// SigV4, joined by semicolons), signature (64 hex digits) and, for temporary
// credentials, security_token. Nothing else may stand there: host, method, path,
// body and headers are not the agent's to say. bound is what the challenge header
// has to be.
//
// Errors: request.too_large, sts.challenge_unsigned, sts.request.
func ParseRequest(raw []byte, bound [32]byte, now time.Time) (Request, error) {
	if len(raw) > MaxRequest {
		return Request{}, reason.New(reason.RequestTooLarge, "the signed request is longer than 16 KiB")
	}
	members, err := strictjson.Object(raw)
	if err != nil {
		return Request{}, reason.Wrap(reason.STSRequest, "the signed request is not strict JSON: "+err.Error(), err)
	}
	r := Request{challenge: base64.RawURLEncoding.EncodeToString(bound[:])}
	var signed string
	read := 0
	for _, m := range []struct {
		name string
		into *string
		form *regexp.Regexp
	}{
		{"region", &r.region, regionName},
		{"access_key_id", &r.key, accessKeyID},
		{"amz_date", &r.date, amzDate},
		{"signature", &r.signature, hexSHA256},
		{"signed_headers", &signed, nil},
		{"security_token", &r.token, tokenForm},
	} {
		value, present := members[m.name]
		if !present && m.name == "security_token" {
			continue
		}
		text, ok := strictjson.Text(value)
		if !ok || m.form != nil && !m.form.MatchString(text) {
			return Request{}, reason.Newf(reason.STSRequest, "%s is missing or not of its form", m.name)
		}
		*m.into, read = text, read+1
	}
	if read != len(members) {
		return Request{}, reason.New(reason.STSRequest, "a member that the broker writes itself, or does not know")
	}
	return r.check(signed, now)
}

func (r Request) check(signed string, now time.Time) (Request, error) {
	names := strings.Split(signed, ";")
	if !slices.Contains(names, ChallengeHeader) {
		return Request{}, reason.New(reason.STSChallengeUnsigned, ChallengeHeader+" is not among the signed headers")
	}
	if !slices.Equal(names, r.signedNames()) {
		return Request{}, reason.New(reason.STSRequest, "the signed headers are not "+strings.Join(r.signedNames(), ";"))
	}
	var known bool
	if r.host, r.partition, known = Endpoint("sts", r.region); !known {
		return Request{}, reason.Newf(reason.STSRequest, "%s is no region of AWS", r.region)
	}
	var err error
	if r.at, err = time.Parse(amzDateForm, r.date); err != nil || now.IsZero() || r.at.Sub(now).Abs() > RequestWindow {
		return Request{}, reason.Newf(reason.STSRequest, "signed at %s, more than 15 minutes off", r.date)
	}
	return r, nil
}

// signedNames are the headers that SigV4 signs here, in its order.
func (r Request) signedNames() []string {
	names := []string{"content-type", "host", "x-amz-date"}
	if r.token != "" {
		names = append(names, "x-amz-security-token")
	}
	return append(names, ChallengeHeader)
}

// Host returns where the request goes, by HTTPS, POST and the path "/".
func (r Request) Host() string { return r.host }

// Region returns the region whose STS is asked.
func (r Request) Region() string { return r.region }

// Headers returns the headers of the request beside host and content-length.
func (r Request) Headers() []Header {
	out := []Header{
		{"accept", STSAccept},
		{"content-type", STSContentType},
		{"x-amz-date", r.date},
		{ChallengeHeader, r.challenge},
	}
	if r.token != "" {
		out = append(out, Header{"x-amz-security-token", r.token})
	}
	scope := r.date[:8] + "/" + r.region + "/sts/aws4_request"
	return append(out, Header{"authorization", "AWS4-HMAC-SHA256 Credential=" + r.key + "/" + scope +
		", SignedHeaders=" + strings.Join(r.signedNames(), ";") + ", Signature=" + r.signature})
}

// Principal is who AWS says signed a request. The zero value is nobody.
type Principal struct {
	account, arn, user string
	at                 time.Time
}

var (
	arnForm  = regexp.MustCompile(`^arn:([a-z-]{3,16}):(iam|sts)::([0-9]{12}):([A-Za-z0-9+=,.@_/-]+)$`)
	userForm = regexp.MustCompile(`^[A-Za-z0-9+=,.@_:-]{1,256}$`)
)

// Answered judges what AWS answered: JSON {"status": 200, "content_type": …,
// "body": …} as the broker recorded it. Nobody else can write it: it is the
// broker's own and never an agent's. The account of the ARN has to be the one that
// stands beside it, and its partition that of the region. Errors:
// request.too_large, sts.answer.
func (r Request) Answered(raw []byte) (Principal, error) {
	if len(raw) > MaxAnswer {
		return Principal{}, reason.New(reason.RequestTooLarge, "the answer of AWS is longer than 16 KiB")
	}
	members, err := strictjson.Object(raw)
	if err != nil || len(members) != 3 || r.host == "" {
		return Principal{}, reason.New(reason.STSAnswer, "AWS was not asked, or its answer was not recorded")
	}
	if status := string(members["status"]); status != "200" {
		return Principal{}, reason.Newf(reason.STSAnswer, "AWS answered with status %.10s", status)
	}
	kind, _ := strictjson.Text(members["content_type"])
	if kind, _, _ = strings.Cut(kind, ";"); strings.TrimSpace(kind) != STSAccept {
		return Principal{}, reason.Newf(reason.STSAnswer, "AWS answered with %.40q, not JSON", kind)
	}
	body, _ := strictjson.Text(members["body"])
	p, ok := readIdentity([]byte(body))
	if !ok {
		return Principal{}, reason.New(reason.STSAnswer, "the answer is not that of GetCallerIdentity")
	}
	part := arnForm.FindStringSubmatch(p.arn)
	if part == nil || part[1] != r.partition || part[3] != p.account {
		return Principal{}, reason.New(reason.STSAnswer, "the ARN is not of the answer's account and the region's partition")
	}
	p.at = r.at
	return p, nil
}

// readIdentity reads {"GetCallerIdentityResponse": {"GetCallerIdentityResult":
// {"Account", "Arn", "UserId"}, "ResponseMetadata": …}}.
func readIdentity(raw []byte) (Principal, bool) {
	result := json.RawMessage(raw)
	for _, name := range []string{"GetCallerIdentityResponse", "GetCallerIdentityResult"} {
		members, err := strictjson.Object(result)
		if err != nil {
			return Principal{}, false
		}
		result = members[name]
	}
	members, err := strictjson.Object(result)
	if err != nil {
		return Principal{}, false
	}
	var p Principal
	var ok [3]bool
	p.account, ok[0] = strictjson.Text(members["Account"])
	p.arn, ok[1] = strictjson.Text(members["Arn"])
	p.user, ok[2] = strictjson.Text(members["UserId"])
	return p, ok == [3]bool{true, true, true} && accountID.MatchString(p.account) && userForm.MatchString(p.user)
}

// ARN returns the name of who signed.
func (p Principal) ARN() string { return p.arn }

// Account returns the account, twelve digits.
func (p Principal) Account() string { return p.account }

// Facts tells what the answer proved: a principal of AWS holds the key that asks,
// now. It names no instance: whoever may assume a role chooses the name of the
// session, which on EC2 alone is the instance's id.
func (p Principal) Facts() document.Facts {
	f := document.Facts{
		Class: document.ClassB, NonceBound: true, KeyBound: true, IssuedAt: p.at,
		Machine: document.Machine{Kind: document.MachineSTSRole, Name: p.user},
		Anchors: []document.Anchor{{Kind: document.MachineSTSRole, Value: p.user}},
	}
	f.Own(document.OwnerAWSAccount, p.account)
	f.Add("sts.account", p.account)
	f.Add("sts.arn", p.arn)
	f.Add("sts.user_id", p.user)
	f.Pass("ec2.sts.request", "the challenge is among the signed headers")
	f.Confirm("ec2.sts.answer", "AWS names "+p.arn)
	return f
}
