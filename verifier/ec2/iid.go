package ec2

import (
	"bytes"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/pkcs7"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Times by which a document is judged.
const (
	// PendingSkew is how far pendingTime may lie ahead of the broker's clock.
	PendingSkew = time.Minute
	// FirstUse is how old pendingTime should be at most at a first registration: who
	// reads the document later, by whatever leak, then finds the instance's own agent
	// registered already. Verify does not know what is registered; policy compares
	// Facts.Launched.
	FirstUse = 5 * time.Minute
)

// Sizes of the signatures that the metadata service offers without PKCS7 around
// them; no SignedData of one signer is as short.
const (
	rsa1024Signature = 128
	rsa2048Signature = 256
)

// Document is an identity document whose signature, region and times were
// verified. The zero value names nothing.
type Document struct {
	identity
	live *instance
}

// Verify judges what the metadata service answers under
// /latest/dynamic/instance-identity/rsa2048: base64 without PEM lines, PEM, or
// the bytes themselves, at most pkcs7.MaxText. beside is a copy of the plain
// document that was sent along, nil for none; it has to be the signed one but for
// white space around it. The content is read from the signed bytes alone.
//
// The signer is found among all certificates of trust; its region is that of the
// certificate and has to be the document's.
//
// Errors, in the order of the checks: request.too_large, ec2.variant (the plain
// document or a signature without PKCS7), those of package pkcs7,
// ec2.document_mismatch, ec2.document, ec2.region, ec2.zone, ec2.pending_time. A
// certificate outside its validity is pkcs7.signer_unknown.
func Verify(raw, beside []byte, trust Trust, now time.Time) (Document, error) {
	der, err := message(raw)
	if err != nil {
		return Document{}, err
	}
	claimed, err := pkcs7.Parse(der, pkcs7.Profile{BER: true})
	if err != nil {
		return Document{}, err
	}
	signed, err := claimed.VerifiedBy(trust.certificates...)
	if err != nil {
		return Document{}, err
	}
	if c := signed.Signer(); now.IsZero() || now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return Document{}, reason.New(reason.PKCS7SignerUnknown, "the certificate of the region is not valid at this time")
	}
	content := signed.Content()
	if beside != nil && !bytes.Equal(bytes.TrimSpace(beside), bytes.TrimSpace(content)) {
		return Document{}, reason.New(reason.EC2DocumentMismatch, "the document that was sent along is not the signed one")
	}
	d, err := readDocument(content)
	if err != nil {
		return Document{}, err
	}
	if pinned := trust.regions[string(signed.Signer().Raw)]; d.region != pinned {
		return Document{}, reason.Newf(reason.EC2Region, "the document names region %s, the certificate is that of %s", d.region, pinned)
	}
	if !isZoneOf(d.zone, d.region) {
		return Document{}, reason.Newf(reason.EC2Zone, "zone %s is not of region %s", d.zone, d.region)
	}
	if d.pending.After(now.Add(PendingSkew)) {
		return Document{}, reason.Newf(reason.EC2PendingTime, "launched at %s, which is ahead of the broker's clock", d.pending.Format(time.RFC3339))
	}
	return Document{identity: d}, nil
}

// Claimed is what a document names, verified by nobody: for asking the cloud about
// it. What the cloud answers is compared with the verified document.
type Claimed struct{ Account, Region, Instance string }

// ReadClaimed reads what a document names without verifying it. Errors: those of
// Verify before the signature, and ec2.document.
func ReadClaimed(raw []byte) (Claimed, error) {
	der, err := message(raw)
	if err != nil {
		return Claimed{}, err
	}
	claimed, err := pkcs7.Parse(der, pkcs7.Profile{BER: true})
	if err != nil {
		return Claimed{}, err
	}
	d, err := readDocument(claimed.InsecureContent())
	if err != nil {
		return Claimed{}, err
	}
	return Claimed{d.account, d.region, d.instance}, nil
}

// message decodes what was sent, and tells the other forms of the metadata
// service from a message that is damaged.
func message(raw []byte) ([]byte, error) {
	if len(raw) == rsa1024Signature || len(raw) == rsa2048Signature || bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		return nil, otherVariant()
	}
	der, err := pkcs7.Decode(raw)
	if err != nil {
		return nil, err
	}
	if len(der) == rsa1024Signature || len(der) == rsa2048Signature {
		return nil, otherVariant()
	}
	return der, nil
}

func otherVariant() error {
	return reason.New(reason.EC2Variant, "not the rsa2048 form of the identity document")
}

// Machine names the instance as account/region/instance id; the empty Machine for
// the zero value.
func (d Document) Machine() document.Machine {
	if d.instance == "" {
		return document.Machine{}
	}
	return document.Machine{Kind: document.MachineEC2, Name: d.account + "/" + d.region + "/" + d.instance}
}

// Account returns the account that the instance belongs to, twelve digits.
func (d Document) Account() string { return d.account }

// Facts tells what the document proved: the machine, of class C.
func (d Document) Facts() document.Facts {
	machine := d.Machine()
	f := document.Facts{
		Class: document.ClassC, Machine: machine, Launched: d.pending,
		Anchors: []document.Anchor{machine.Anchor(), {Kind: document.AnchorEC2, Value: d.region + "/" + d.instance}},
	}
	f.Own(document.OwnerAWSAccount, d.account)
	f.Add("ec2.account_id", d.account)
	f.Add("ec2.region", d.region)
	f.Add("ec2.availability_zone", d.zone)
	f.Add("ec2.instance_id", d.instance)
	f.Add("ec2.image_id", d.image)
	f.Add("ec2.instance_type", d.kind)
	f.Add("ec2.architecture", d.arch)
	f.Add("ec2.private_ip", d.address)
	for _, code := range d.marketplace {
		f.Add("ec2.product_code", code)
	}
	for _, code := range d.billing {
		f.Add("ec2.billing_product", code)
	}
	f.Pass("ec2.iid.signature", "SHA-256 with RSA under the certificate of "+d.region)
	f.Pass("ec2.iid.document", "strict JSON with the signed region, its zone and a launch at "+d.pending.Format(time.RFC3339))
	if d.live != nil {
		d.live.tell(&f)
	}
	if len(d.marketplace) > 0 {
		f.Fear(reason.EC2Marketplace, "the image is one of the marketplace: whoever made it has run code on the instance")
	}
	f.Sort()
	return f
}
