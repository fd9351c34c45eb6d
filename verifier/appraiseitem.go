package verifier

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// MaxItems bounds the documents of one attestation: one of each kind that a
// machine can have at once.
const MaxItems = 6

// Document is a verified document of an attestation.
type Document struct {
	document.Facts
	// Anchored says that it is about the machine that the node is named by: it
	// shares an anchor with that evidence, or with a document that does. Nonce and
	// key alone do not say so: one agent can collect from two machines.
	Anchored bool
}

// CheckItems refuses what no document needs to be looked at for: more than
// MaxItems, two of one format, formats that are no documents of this verifier's.
// primary is the format that names the node. Errors: request.too_large,
// request.malformed, request.unknown_format.
func CheckItems(primary string, items []Item) error {
	if len(items) > MaxItems {
		return reason.Newf(reason.RequestTooLarge, "more than %d documents", MaxItems)
	}
	seen := map[string]bool{}
	for i := range items {
		f := items[i].Format
		switch {
		case f != primary && !VerifiesItem(f), f == primary && itemFormats[f] == nil:
			return reason.New(reason.RequestUnknownFormat, "this broker does not verify a document that was sent")
		case primary == FormatTPM2Lab:
			return reason.New(reason.RequestMalformed, "lab evidence stands alone")
		case seen[f]:
			return reason.Newf(reason.RequestMalformed, "two documents of format %s", f)
		}
		seen[f] = true
	}
	return nil
}

// itemJudge judges the documents of one attestation.
type itemJudge struct {
	a       *Appraisal
	ev      *Evidence
	want    *Expectation
	trust   *Documents
	primary [32]byte // binding of the format that names the node
	ak      []byte   // SPKI of the key that quoted, nil without a quote
	now     time.Time
}

func (j *itemJudge) judge(i *Item) (document.Facts, error) {
	in := itemInput{
		Item: i, Bound: bindingOf(j.ev, j.want, i.Format), Primary: j.primary, AK: j.ak, IssuedAt: j.want.IssuedAt, Now: j.now,
	}
	facts, err := itemFormats[i.Format](&in, j.trust)
	if err != nil {
		return document.Facts{}, err
	}
	facts.Format = i.Format
	return facts, nil
}

// judgeItems judges every document but that of format without, whose facts are
// taken already, and ties them to the machine.
func (j *itemJudge) judgeItems(without string) {
	for i := range j.ev.Items {
		item := &j.ev.Items[i]
		if item.Format == without {
			continue
		}
		facts, err := j.judge(item)
		if err != nil {
			j.a.refuse(item.Format, err)
			continue
		}
		j.a.take(facts)
	}
	j.a.tie(j.primary, j.ak)
}

// take adds a verified document.
func (a *Appraisal) take(facts document.Facts) {
	a.documents = append(a.documents, Document{Facts: facts})
	a.pass(facts.Format, "verified")
}

// tie marks the documents that share an anchor with what names the node, directly
// or through another one, and works out the class: the strongest of those, and
// the weakest of all where one of them could be about another machine.
func (a *Appraisal) tie(primary [32]byte, ak []byte) {
	var known []document.Anchor
	if Protected(a.format) { // who asked the GPU is then code that a report measured
		known = append(known, document.Anchor{Kind: document.AnchorReport, Value: hex.EncodeToString(primary[:])})
	}
	if len(ak) > 0 {
		known = append(known, akAnchor(ak))
	}
	for again := true; again; {
		again = false
		for i := range a.documents {
			d := &a.documents[i]
			anchors := anchorsOf(&d.Facts)
			own := d.Format == a.format || slices.ContainsFunc(anchors, func(x document.Anchor) bool { return slices.Contains(known, x) })
			if d.Anchored || !own {
				continue
			}
			d.Anchored, again = true, true
			known = append(known, anchors...)
		}
	}
	a.contradictions()
	for i := range a.documents {
		d := &a.documents[i]
		if d.Anchored && d.Class < a.class {
			a.class = d.Class
		}
	}
	for i := range a.documents {
		if d := &a.documents[i]; !d.Anchored && d.Class > a.class {
			a.class = d.Class
		}
	}
}

// contradictions refuses documents that name two machines of one kind: whoever
// mixes the evidence of two hosts must not earn what neither of them would.
func (a *Appraisal) contradictions() {
	names := map[string]string{}
	for i := range a.documents {
		for _, x := range anchorsOf(&a.documents[i].Facts) {
			if x.Kind == document.AnchorReport {
				continue
			}
			first, seen := names[x.Kind]
			names[x.Kind] = x.Value
			if !seen || first == x.Value {
				continue
			}
			a.refuse(a.documents[i].Format, reason.Newf(contradictionCode(x.Kind), "the documents name two machines (%s)", x.Kind))
			return
		}
	}
}

func contradictionCode(kind string) reason.Code {
	switch kind {
	case document.MachineGCE:
		return reason.GCEAKCertInstance
	case document.MachineAzure:
		return reason.AzureResource
	}
	return reason.NodeIdentityConflict
}

// anchorsOf are the anchors of a document, its machine and the key that it vouches
// for among them.
func anchorsOf(f *document.Facts) []document.Anchor {
	out := slices.Clone(f.Anchors)
	if f.Machine != (document.Machine{}) {
		out = append(out, f.Machine.Anchor())
	}
	if len(f.AK) > 0 {
		out = append(out, akAnchor(f.AK))
	}
	return out
}

func akAnchor(spki []byte) document.Anchor {
	sum := sha256.Sum256(spki)
	return document.Anchor{Kind: document.AnchorAK, Value: hex.EncodeToString(sum[:])}
}

// primaryItem returns the document that names the node.
func primaryItem(ev *Evidence) (*Item, error) {
	for i := range ev.Items {
		if ev.Items[i].Format == ev.Format {
			return &ev.Items[i], nil
		}
	}
	return nil, reason.Newf(reason.RequestMalformed, "there is no document of format %s", ev.Format)
}

// appraiseDocument judges a host without a TPM: who brings the documents proves it
// with its agent key, and one of the documents says what it runs on. A known
// agent key is an author whose refusals are recorded; at first contact the
// document has to verify before anybody is known.
func appraiseDocument(a *Appraisal, ev *Evidence, want *Expectation, trust *Trust, now time.Time) error {
	item, bound, err := agentOf(ev, want)
	if err != nil {
		return err
	}
	a.findings = make([]Finding, 0, 8)
	a.pass("agent", "signed by the agent key over this challenge")
	a.authentic = want.Purpose != PurposeEnrol
	j := itemJudge{a: a, ev: ev, want: want, trust: &trust.Documents, primary: bound, now: now}
	if err := j.primaryFacts(item); err != nil {
		return err
	}
	j.judgeItems(ev.Format)
	a.judgePossession(ev)
	return nil
}

// primaryFacts judges the document that names the node. One that proves nothing
// beside the agent key (a join token) leaves it genuine in no sense.
func (j *itemJudge) primaryFacts(item *Item) error {
	facts, err := j.judge(item)
	if err != nil {
		if j.a.authentic {
			j.a.refuse(item.Format, err)
			return nil
		}
		return err
	}
	j.a.authentic = true
	j.a.class, j.a.genuine = facts.Class, item.Format != FormatJoinToken
	j.a.take(facts)
	return nil
}

// appraiseQuoted judges a TPM whose attestation key a cloud vouches for: the quote
// as that of any TPM, and the document for the key.
func appraiseQuoted(a *Appraisal, ev *Evidence, want *Expectation, trust *Trust, now time.Time) error {
	a.class = ClassA // the quote carries nonce and key, whether or not the document holds
	by, err := quoteOf(ev, want)
	if err != nil {
		return err
	}
	a.findings = make([]Finding, 0, 8)
	a.authentic = want.Purpose != PurposeEnrol
	j := itemJudge{a: a, ev: ev, want: want, trust: &trust.Documents, primary: by.bound, ak: by.ak.SPKI(), now: now}
	if err := j.primaryFacts(by.item); err != nil {
		return err
	}
	if len(a.documents) > 0 && !bytes.Equal(a.documents[0].AK, j.ak) {
		a.refuse(ev.Format, reason.New(reason.TPM2AKCertKeyMismatch, "the document vouches for another attestation key"))
	}
	a.takeQuote(by.attested, ev.TPM2, want)
	a.judgeKey(&by.ak, ev, by.bound[:])
	j.judgeItems(ev.Format)
	return nil
}

// judgePossession demands the CSR of a key that no TPM holds.
func (a *Appraisal) judgePossession(ev *Evidence) {
	if err := possession(ev.CSR, ev.SPKI); err != nil {
		a.refuse("key", err)
		return
	}
	a.key = KeySoftware
	a.pass("key", "possession proved by CSR")
}

// Documents returns the verified documents, that of the node's format first; the
// slice is the caller's, what is in it is not to be changed.
func (a Appraisal) Documents() []Document { return slices.Clone(a.documents) }

// Machine returns the machine that names the node, the zero value where no
// document does.
func (a Appraisal) Machine() document.Machine {
	if len(a.documents) == 0 || a.documents[0].Format != a.format {
		return document.Machine{}
	}
	return a.documents[0].Machine
}

// Launched returns when the machine that names the node was started, zero where
// nothing says so.
func (a Appraisal) Launched() time.Time {
	if a.Machine() == (document.Machine{}) {
		return time.Time{}
	}
	return a.documents[0].Launched
}

// DocumentTime returns the earliest time at which one of the documents was made;
// zero where none says.
func (a Appraisal) DocumentTime() time.Time {
	var first time.Time
	for i := range a.documents {
		if at := a.documents[i].IssuedAt; !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}
