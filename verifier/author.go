package verifier

import (
	"bytes"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// AuthorHolds does what Appraise begins with, and no more: the form of the
// documents, and the proof of the key that the challenge was issued for, a quote's
// signature or that of an agent key, over nonce and SVID key. It is for whoever
// wants to spend something on evidence (a question to a platform) before it is
// judged: nil says that the author of this challenge's evidence wrote it, and
// nothing about a machine. The error is the one that Appraise returns.
func AuthorHolds(ev Evidence, want Expectation) error {
	if !Verifies(ev.Format) {
		return unknownFormat()
	}
	if err := CheckItems(ev.Format, ev.Items); err != nil {
		return err
	}
	var err error
	if Quotes(ev.Format) {
		_, err = quoteOf(&ev, &want)
	} else {
		_, _, err = agentOf(&ev, &want)
	}
	return err
}

func unknownFormat() error {
	return reason.New(reason.RequestUnknownFormat, "this broker does not verify that evidence format")
}

// quoter is who quoted, proved.
type quoter struct {
	ak       tpm2.AK
	attested tpm2.Attested
	bound    [32]byte // what the quote carries
	item     *Item    // the document that names the node; nil where the EK does
}

// quoteOf checks that the AK of the challenge signed the quote over it. An EK names
// the AKs of its own hierarchy; a cloud makes its AKs where it likes, and vouches
// for the key itself: which hierarchy that is in, the quote says.
func quoteOf(ev *Evidence, want *Expectation) (by quoter, err error) {
	e := ev.TPM2
	if e == nil {
		return by, reason.New(reason.RequestMalformed, "member tpm2 is missing")
	}
	quoted := Quoted(ev.Format)
	if quoted {
		if by.item, err = primaryItem(ev); err != nil {
			return by, err
		}
	}
	if by.ak, err = tpm2.ParseAK(e.AKPublic); err != nil {
		return by, err
	}
	if !bytes.Equal(by.ak.Name(), want.AKName) {
		return by, reason.New(reason.ChallengeWrongNode, "the challenge was issued for another AK")
	}
	if quoted {
		s, err := tpm2.ReadAttest(e.Quote, tpm2.KindQuote)
		if err != nil {
			return by, err
		}
		by.ak = by.ak.Pinned(s.Signer)
	}
	by.bound = bindingOf(ev, want, ev.Format)
	by.attested, err = tpm2.AuthenticateQuote(by.ak, e.Quote, e.Signature, by.bound[:])
	if !quoted {
		err = nameActivation(err, want.Purpose)
	}
	return by, err
}

// nameActivation: at enrolment the nonce is the credential's secret, so a wrong
// one means that EK and AK do not live in one TPM.
func nameActivation(err error, purpose string) error {
	if purpose == PurposeEnrol && reason.Of(err) == reason.TPM2QuoteNonceMismatch {
		return reason.New(reason.TPM2AKActivationFailed, "the quote does not carry the secret of the credential")
	}
	return err
}

// agentOf checks that the agent key of the challenge signed it, and returns the
// document that names the node.
func agentOf(ev *Evidence, want *Expectation) (item *Item, bound [32]byte, err error) {
	if ev.TPM2 != nil {
		return nil, bound, reason.New(reason.RequestMalformed, "member tpm2 does not go with this format")
	}
	if item, err = primaryItem(ev); err != nil {
		return nil, bound, err
	}
	bound = bindingOf(ev, want, ev.Format)
	return item, bound, verifyAgent(ev.Agent, want.AKName, bound)
}
