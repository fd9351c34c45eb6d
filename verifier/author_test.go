package verifier_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestAuthorHoldsByAgentKey: what is asked before anything is spent on documents
// refuses what Appraise begins by refusing, with its codes, and no document.
func TestAuthorHoldsByAgentKey(t *testing.T) {
	for name, k := range map[string]struct {
		change func(*composite)
		want   reason.Code // "" holds
	}{
		"honest":              {func(*composite) {}, ""},
		"document of nobody":  {func(c *composite) { c.ev.Items[0].Document = nil }, ""},
		"no proof":            {func(c *composite) { c.ev.Agent = nil }, reason.RequestMalformed},
		"another's signature": {func(c *composite) { c.ev.Agent.Signature = flip(c.ev.Agent.Signature, 9) }, reason.AgentSignature},
		"another challenge":   {func(c *composite) { c.want.Nonce = flip(c.want.Nonce, 0) }, reason.AgentSignature},
		"another SVID key":    {func(c *composite) { c.ev.SPKI = evidencetest.NewSVIDKey(t).SPKI(t) }, reason.AgentSignature},
		"another agent key":   {func(c *composite) { c.want.AKName = flip(c.want.AKName, 9) }, reason.ChallengeWrongNode},
		"a quote beside it":   {func(c *composite) { c.ev.TPM2 = &verifier.TPM2Evidence{} }, reason.RequestMalformed},
		"no document":         {func(c *composite) { c.ev.Items = nil }, reason.RequestMalformed},
		"two of one format":   {(*composite).iid, reason.RequestMalformed},
		"a format of nobody":  {func(c *composite) { c.add(verifier.Item{Format: "none"}) }, reason.RequestUnknownFormat},
		"a node of no format": {func(c *composite) { c.ev.Format = "none" }, reason.RequestUnknownFormat},
		"too many": {func(c *composite) {
			for range verifier.MaxItems {
				c.iid()
			}
		}, reason.RequestTooLarge},
	} {
		c := newComposite(t, verifier.FormatEC2IID)
		c.iid()
		if _, err := c.appraise(); err != nil {
			t.Fatal(err)
		}
		k.change(c)
		err := verifier.AuthorHolds(c.ev, c.want)
		if (err == nil) != (k.want == "") || err != nil && reason.Of(err) != k.want {
			t.Errorf("%s: %v", name, err)
		}
		if _, full := verifier.Appraise(c.ev, c.want, c.trust, itemNow); err != nil && reason.Of(full) != reason.Of(err) {
			t.Errorf("%s: alone %v, in all %v", name, err, full)
		}
	}
}

// TestAuthorHoldsByQuote: a key that a document vouches for has to have quoted.
func TestAuthorHoldsByQuote(t *testing.T) {
	for name, k := range map[string]struct {
		change func(*attempt)
		want   reason.Code
	}{
		"honest":            {func(*attempt) {}, ""},
		"another signature": {func(a *attempt) { a.ev.TPM2.Signature = evidencetest.NewAK(t).Sign(t, a.ev.TPM2.Quote) }, reason.TPM2SignatureInvalid},
		"another challenge": {func(a *attempt) { a.want.Nonce = flip(a.want.Nonce, 0) }, reason.TPM2QuoteNonceMismatch},
		"another AK":        {func(a *attempt) { a.want.AKName = flip(a.want.AKName, 5) }, reason.ChallengeWrongNode},
		"no document":       {func(a *attempt) { a.ev.Items = nil }, reason.RequestMalformed},
		"no quote":          {func(a *attempt) { a.ev.TPM2 = nil }, reason.RequestMalformed},
		"quote of no form":  {func(a *attempt) { a.ev.TPM2.Quote = nil }, reason.TPM2AttestTruncated},
	} {
		a := newRenew(t)
		a.tpm.Format = verifier.FormatGCEAKCert
		a.answer(t)
		a.ev.Items = []verifier.Item{{Format: verifier.FormatGCEAKCert}}
		k.change(a)
		err := verifier.AuthorHolds(a.ev, a.want)
		if (err == nil) != (k.want == "") || err != nil && reason.Of(err) != k.want {
			t.Errorf("%s: %v", name, err)
		}
		if _, full := a.appraise(); err != nil && reason.Of(full) != reason.Of(err) {
			t.Errorf("%s: alone %v, in all %v", name, err, full)
		}
	}
}
