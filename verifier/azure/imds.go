package azure

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/pkcs7"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Times by which an attested document is judged.
const (
	// IMDSSkew is how far createdOn may lie ahead of the broker's clock.
	IMDSSkew = time.Minute
	// IMDSLifetime bounds expiresOn − createdOn: Azure writes about six hours.
	IMDSLifetime = 24 * time.Hour
)

// imdsForm is how the document writes times: "11/20/18 22:07:39 -0000".
const imdsForm = "01/02/06 15:04:05 -0700"

var imdsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// imdsClouds are the names under which each cloud's metadata service signs
// (Azure Instance Metadata Service, "Attested data", "Sample 1").
var imdsClouds = []struct{ domain, cloud string }{
	{"metadata.azure.com", "public"},
	{"metadata.azure.us", "usgov"},
	{"metadata.azure.cn", "china"},
}

// Attested is an attested document of the instance metadata service whose signer,
// times and nonce were verified. The zero value names nothing.
type Attested struct {
	vm, subscription, cloud  string
	sku, license             string
	plan                     [3]string // name, product, publisher
	created, expires         time.Time
	nonceBound               bool
	live                     *liveVM
	signerIssuer, signerName string
}

// VerifyIMDS judges what the metadata service answers under
// /metadata/attested/document: its JSON {"encoding":"pkcs7","signature":…}, or the
// signature alone. roots are CAs under which the signer has to chain; nothing that
// a certificate names is fetched, so that intermediates stand there too or in the
// message. nonce is what was asked for, "" for nothing: such a document is a
// bearer document.
//
// Errors, in the order of the checks: request.too_large, those of pkcs7.Parse,
// pkcs7.signer_unknown, azure.san, azure.untrusted, azure.validity, pkcs7.algorithm,
// pkcs7.signature, azure.document, azure.timestamp, azure.validity (createdOn),
// azure.nonce_mismatch.
func VerifyIMDS(raw []byte, nonce string, roots x509chain.Roots, now time.Time) (Attested, error) {
	claimed, err := parseIMDS(raw)
	if err != nil {
		return Attested{}, err
	}
	signer, err := claimed.Candidate()
	if err != nil {
		return Attested{}, err
	}
	cloud, err := checkIMDSSigner(signer, claimed.Others(), roots, now)
	if err != nil {
		return Attested{}, err
	}
	signed, err := claimed.VerifiedBy(signer)
	if err != nil {
		return Attested{}, err
	}
	a, stated, err := readIMDS(signed.Content())
	if err != nil {
		return Attested{}, err
	}
	a.cloud, a.signerName, a.signerIssuer = cloud, signer.Subject.CommonName, signer.Issuer.CommonName
	if err := a.checkTimes(signer, now); err != nil {
		return Attested{}, err
	}
	if stated == "" || nonce != "" && nonce != stated {
		return Attested{}, reason.New(reason.AzureNonceMismatch, "the document is not made for this challenge")
	}
	a.nonceBound = nonce != ""
	return a, nil
}

// parseIMDS takes the message out of the JSON around it, which nobody signed.
func parseIMDS(raw []byte) (pkcs7.Claimed, error) {
	if len(raw) > pkcs7.MaxText {
		return pkcs7.Claimed{}, reason.New(reason.RequestTooLarge, "the attested document is longer than 32 KiB")
	}
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		members, err := strictjson.Object(raw)
		encoding, _ := strictjson.Text(members["encoding"])
		text, ok := strictjson.Text(members["signature"])
		if err != nil || len(members) != 2 || encoding != "pkcs7" || !ok {
			return pkcs7.Claimed{}, reason.New(reason.PKCS7Encoding, "not the JSON of an attested document: encoding pkcs7 and signature")
		}
		raw = []byte(text)
	}
	der, err := pkcs7.Decode(raw)
	if err != nil {
		return pkcs7.Claimed{}, err
	}
	return pkcs7.Parse(der, pkcs7.Profile{NoAttributes: true, DigestWithRSA: true})
}

// checkIMDSSigner: names first, so that a certificate of anybody's web server,
// whose CA is the same, is told as that. A certificate without names is no
// better for chaining: its common name decides only whether it is a stranger or,
// as those of 2018 that Azure's documentation shows, one without a root.
func checkIMDSSigner(signer *x509.Certificate, others []*x509.Certificate, roots x509chain.Roots, now time.Time) (string, error) {
	cloud := cloudOf(signer.DNSNames)
	stranger := reason.New(reason.AzureSAN, "the signer is not named under metadata.azure.com or that of another cloud")
	if cloud == "" && (len(signer.DNSNames) > 0 || cloudOf([]string{signer.Subject.CommonName}) == "") {
		return "", stranger
	}
	if len(signer.UnhandledCriticalExtensions) > 0 || signer.IsCA {
		return "", reason.New(reason.AzureUntrusted, "the signer is a CA or has a critical extension that is unknown")
	}
	_, err := roots.Chains(signer, others, now)
	switch {
	case x509chain.IsExpired(err):
		return "", reason.Wrap(reason.AzureValidity, "the signer or its issuer is not valid at this time", err)
	case err != nil:
		return "", reason.Wrap(reason.AzureUntrusted, "the signer does not chain to a configured root", err)
	case cloud == "":
		return "", stranger
	}
	return cloud, nil
}

// cloudOf returns the cloud in which one of the names lies: the domain itself, one
// label below it, or a wildcard there.
func cloudOf(names []string) string {
	for _, name := range names {
		name = strings.ToLower(name)
		for _, c := range imdsClouds {
			label, below := strings.CutSuffix(name, "."+c.domain)
			if name == c.domain || below && (label == "*" || imdsLabel.MatchString(label)) {
				return c.cloud
			}
		}
	}
	return ""
}

// readIMDS reads the signed JSON. Members that it does not know are passed over:
// Azure adds some with its API versions.
func readIMDS(raw []byte) (a Attested, nonce string, err error) {
	members, err := strictjson.Object(raw)
	if err != nil {
		return a, "", reason.Wrap(reason.AzureDocument, "the signed content is not strict JSON: "+err.Error(), err)
	}
	var ok bool
	// A document that was made without one of the asker's has a time there. One that
	// has none answers no challenge, which is for the comparison to say.
	if nonce, ok = strictjson.Text(members["nonce"]); !ok && !strictjson.IsNull(members["nonce"]) {
		return a, "", reason.New(reason.AzureDocument, "the nonce is not text")
	}
	for _, m := range []struct {
		name string
		into *string
	}{{"vmId", &a.vm}, {"subscriptionId", &a.subscription}} {
		text, ok := strictjson.Text(members[m.name])
		if !ok || !tokenGUID.MatchString(text) {
			return a, "", reason.Newf(reason.AzureDocument, "%s is missing or not a GUID", m.name)
		}
		*m.into = strings.ToLower(text)
	}
	times, err := strictjson.Object(members["timeStamp"])
	if err != nil {
		return a, "", reason.Wrap(reason.AzureDocument, "timeStamp is missing or not an object", err)
	}
	for name, into := range map[string]*time.Time{"createdOn": &a.created, "expiresOn": &a.expires} {
		text, _ := strictjson.Text(times[name])
		if *into, err = time.Parse(imdsForm, text); err != nil {
			return a, "", reason.Newf(reason.AzureDocument, "%s is missing or not a time", name)
		}
		*into = into.UTC()
	}
	if !a.readPlan(members) {
		return a, "", reason.New(reason.AzureDocument, "sku, licenseType or plan is not text")
	}
	return a, nonce, nil
}

// readPlan reads what the machine was sold as; all of it may be absent or empty.
func (a *Attested) readPlan(members map[string]json.RawMessage) bool {
	plan := map[string]json.RawMessage{}
	if raw := members["plan"]; !strictjson.IsNull(raw) {
		var err error
		if plan, err = strictjson.Object(raw); err != nil {
			return false
		}
	}
	for _, m := range []struct {
		raw  json.RawMessage
		into *string
	}{
		{members["sku"], &a.sku},
		{members["licenseType"], &a.license},
		{plan["name"], &a.plan[0]},
		{plan["product"], &a.plan[1]},
		{plan["publisher"], &a.plan[2]},
	} {
		if strictjson.IsNull(m.raw) {
			continue
		}
		var ok bool
		if *m.into, ok = strictjson.Text(m.raw); !ok {
			return false
		}
	}
	return true
}

// checkTimes: the document is judged at now alone; that it was also made within
// the signer's validity keeps one apart that a key signed after its certificate.
func (a *Attested) checkTimes(signer *x509.Certificate, now time.Time) error {
	switch {
	case a.created.After(now.Add(IMDSSkew)), !a.expires.After(now), !a.expires.After(a.created), a.expires.Sub(a.created) > IMDSLifetime:
		return reason.Newf(reason.AzureTimestamp, "the document is of %s to %s", a.created.Format(time.RFC3339), a.expires.Format(time.RFC3339))
	case a.created.Before(signer.NotBefore), a.created.After(signer.NotAfter):
		return reason.New(reason.AzureValidity, "the document was made outside its signer's validity")
	}
	return nil
}

// VM returns the vmId, a GUID in lower case.
func (a Attested) VM() string { return a.vm }

// Subscription returns the subscription that the machine is billed to, a GUID in
// lower case.
func (a Attested) Subscription() string { return a.subscription }

// Facts tells what the document proved: the machine, of class B where it was made
// for the challenge.
func (a Attested) Facts() document.Facts {
	f := document.Facts{
		Class: document.ClassC, NonceBound: a.nonceBound, KeyBound: a.nonceBound,
		IssuedAt: a.created, ExpiresAt: a.expires,
	}
	if a.nonceBound {
		f.Class = document.ClassB
	}
	if a.vm != "" {
		f.Machine = document.Machine{Kind: document.MachineAzure, Name: a.vm}
		f.Anchors = []document.Anchor{{Kind: document.MachineAzure, Value: a.vm}}
	}
	f.Own(document.OwnerAzureSubscription, a.subscription)
	f.Add("azure.imds.vm_id", a.vm)
	f.Add("azure.imds.subscription", a.subscription)
	f.Add("azure.imds.cloud", a.cloud)
	f.Add("azure.imds.sku", a.sku)
	f.Add("azure.imds.license_type", a.license)
	f.Add("azure.imds.plan.name", a.plan[0])
	f.Add("azure.imds.plan.product", a.plan[1])
	f.Add("azure.imds.plan.publisher", a.plan[2])
	f.Pass("azure.imds.signer", "signed by "+a.signerName+" under "+a.signerIssuer)
	f.Pass("azure.imds.window", "made at "+a.created.Format(time.RFC3339)+", good until "+a.expires.Format(time.RFC3339))
	if a.nonceBound {
		f.Pass("azure.imds.nonce", "the nonce is that of the challenge")
	}
	if a.live != nil {
		a.live.tell(&f)
	}
	f.Sort()
	return f
}
