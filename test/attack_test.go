package test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestForgedEvidence sends genuine quotes of real TPMs with one thing changed
// between host and broker; the numbers are the rows of the catalogue.
func TestForgedEvidence(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h, stranger := newHost(t, c.rig), newHost(t, c.rig)
	h.admit(p)
	stranger.admit(p)
	r, s := h.raw(p), stranger.raw(p)
	prev := r.enrol().AttestationID
	s.enrol()
	other := freshSPKI(t)

	for _, tt := range []struct {
		name string
		make func(ch api.Challenge) api.AttestRequest
		want reason.Code
	}{
		{"tpm-01_magic", flip(r, func(e *api.TPM2Evidence) { e.Quote[0] ^= 1 }), reason.TPM2SignatureInvalid},
		{"tpm-15_pcr_value_changed", flip(r, func(e *api.TPM2Evidence) { e.PCRs["4"][0] ^= 1 }), reason.TPM2PCRDigest},
		{"tpm-16_pcr_outside_the_selection", flip(r, func(e *api.TPM2Evidence) { e.PCRs["16"] = make([]byte, 32) }), reason.TPM2PCRUnquoted},
		{"tpm-17_pcr_of_20_bytes", flip(r, func(e *api.TPM2Evidence) { e.PCRs["0"] = e.PCRs["0"][:20] }), reason.TPM2PCRLength},
		{"tpm-18_pcrs_swapped", flip(r, func(e *api.TPM2Evidence) { e.PCRs["0"], e.PCRs["4"] = e.PCRs["4"], e.PCRs["0"] }), reason.TPM2PCRDigest},
		{"tpm-19_extra_data_empty", func(ch api.Challenge) api.AttestRequest { return r.quoteOver(ch, nil) }, reason.TPM2QuoteNonceMismatch},
		{"tpm-20_raw_nonce", func(ch api.Challenge) api.AttestRequest { return r.quoteOver(ch, ch.Nonce) }, reason.TPM2QuoteNonceMismatch},
		{"tpm-21_other_svid_key", func(ch api.Challenge) api.AttestRequest {
			req := r.evidence(ch)
			req.SPKI = other
			return req
		}, reason.TPM2QuoteNonceMismatch},
		{"tpm-26_other_trust_domain", boundTo(r, "other.example", api.PurposeRenew, api.FormatTPM2), reason.TPM2QuoteNonceMismatch},
		{"T47_other_purpose", boundTo(r, trustDomain, api.PurposeEnrol, api.FormatTPM2), reason.TPM2QuoteNonceMismatch},
		{"T47_other_format", boundTo(r, trustDomain, api.PurposeRenew, "tpm2.lab"), reason.TPM2QuoteNonceMismatch},
		{"T3_nonce_of_another_session", func(ch api.Challenge) api.AttestRequest {
			req := r.evidence(r.challenge(r.renewRequest()))
			req.Token = ch.Token
			return req
		}, reason.TPM2QuoteNonceMismatch},
		{"tpm-35_signed_by_another_TPM", func(ch api.Challenge) api.AttestRequest {
			req, foreign := r.evidence(ch), s.evidence(ch)
			req.TPM2.Quote, req.TPM2.Signature = foreign.TPM2.Quote, foreign.TPM2.Signature
			return req
		}, reason.TPM2SignatureInvalid},
		{"tpm-36_signature_bit", flip(r, func(e *api.TPM2Evidence) { e.Signature[len(e.Signature)-1] ^= 1 }), reason.TPM2SignatureInvalid},
		{"tpm-24_T48_token_of_another_node", func(ch api.Challenge) api.AttestRequest {
			req := s.evidence(ch)
			return req
		}, reason.ChallengeWrongNode},
		{"tpm-25_token_altered", func(ch api.Challenge) api.AttestRequest {
			req := r.evidence(ch)
			b := []byte(req.Token)
			if mid := &b[len(b)/2]; *mid == 'A' { // stay within the alphabet
				*mid = 'B'
			} else {
				*mid = 'A'
			}
			req.Token = string(b)
			return req
		}, reason.ChallengeInvalid},
		{"tpm-68_log_without_a_pcr", flip(r, func(e *api.TPM2Evidence) { e.EventLog = logWithout(4) }), reason.TPM2PCRUnexplained},
		{"tpm-70_log_cut", flip(r, func(e *api.TPM2Evidence) { e.EventLog = e.EventLog[:len(e.EventLog)-3] }), reason.EventLogTruncated},
		{"tpm-94_certify_of_another_key", func(ch api.Challenge) api.AttestRequest {
			req := r.evidence(ch)
			foreign := s.evidence(ch)
			req.TPM2.Certify = foreign.TPM2.Certify
			return req
		}, reason.TPM2CertifyMismatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := tt.make(r.challenge(r.renewRequest()))
			req.Prev = prev
			_, err := r.client.Attest(t.Context(), req)
			wantCode(t, err, tt.want)
		})
	}
	// After all that the honest host is still served.
	req := r.evidence(r.challenge(r.renewRequest()))
	req.Prev = prev
	_, err := r.client.Attest(t.Context(), req)
	must(t, err)
}

// flip makes honest evidence and changes it.
func flip(r *raw, change func(*api.TPM2Evidence)) func(api.Challenge) api.AttestRequest {
	return func(ch api.Challenge) api.AttestRequest {
		req := r.evidence(ch)
		change(req.TPM2)
		return req
	}
}

func boundTo(r *raw, td, purpose, format string) func(api.Challenge) api.AttestRequest {
	return func(ch api.Challenge) api.AttestRequest {
		b := verifier.Binding(ch.Nonce, r.key.SPKI(), td, purpose, format, nil)
		return r.quoteOver(ch, b[:])
	}
}

func freshSPKI(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	return der
}

// logWithout is the golden log without the events of one PCR.
func logWithout(pcr int) []byte {
	events := build.Machine{}.Log().Events()
	return build.New(slices.DeleteFunc(events, func(e build.Event) bool { return e.PCR == pcr })...).Bytes()
}

// TestSoftwareKey: a key outside the TPM is proved by a CSR and caps the tier.
func TestSoftwareKey(t *testing.T) {
	tierTwo := []byte(labZone)
	tierTwo = bytes.Replace(tierTwo, []byte("tier: 1"), []byte("tier: 2"), 1)
	tierTwo = bytes.Replace(tierTwo, []byte("format: [tpm2]"), []byte("format: [tpm2], secure_boot: true"), 1)
	for _, tt := range []struct {
		name string
		zone string
		want reason.Code
	}{
		{"earns tier 1", labZone, ""},
		{"does not earn tier 2", string(tierTwo), reason.PolicyEvidenceMissing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t, tt.zone)
			p := c.start(t)
			h := newHost(t, c.rig)
			h.admit(p)
			r := h.raw(p)
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			must(t, err)
			csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
			must(t, err)
			spki, err := x509.MarshalPKIXPublicKey(key.Public())
			must(t, err)
			ch := r.challenge(r.enrolRequest())
			nonce, err := r.tpm.Activate(t.Context(), ch.Credential.Blob, ch.Credential.Secret)
			must(t, err)
			b := verifier.Binding(nonce, spki, trustDomain, ch.Purpose, api.FormatTPM2, nil)
			req := r.quoteOver(ch, b[:])
			req.SPKI, req.CSR, req.TPM2.Certify = spki, csr, nil
			res, err := r.client.Attest(t.Context(), req)
			if tt.want != "" {
				wantCode(t, err, tt.want)
				return
			}
			must(t, err)
			if res.Tier != 1 {
				t.Errorf("tier %d", res.Tier)
			}
		})
	}
}

// TestTPM27_QuotesMadeAheadWithClockSet: one nonce gives quotes for three future
// times within a second. One of them is taken, as old as the nonce.
func TestTPM27_QuotesMadeAheadWithClockSet(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	r := h.raw(p)
	prev := r.enrol().AttestationID
	ch := r.challenge(r.renewRequest())
	issuedBefore := time.Now()
	var ahead []api.AttestRequest
	for range 3 {
		must(t, r.tpm.Close())
		h.setClock(150_000)
		r.open()
		var err error
		r.ak, err = r.tpm.AK(t.Context())
		must(t, err)
		r.key, err = r.tpm.SVIDKey(t.Context())
		must(t, err)
		req := r.evidence(ch)
		req.Prev = prev
		ahead = append(ahead, req)
	}
	accepted := 0
	for _, req := range ahead {
		res, err := r.client.Attest(t.Context(), req)
		if err == nil {
			accepted++
			if res.AttestedAt.After(issuedBefore) {
				t.Errorf("attested_at %s is younger than the nonce", res.AttestedAt)
			}
			if !slices.Contains(res.Events, string(reason.TPM2ClockSet)) {
				t.Errorf("events %v, want tpm2.clock_set", res.Events)
			}
			continue
		}
		wantCode(t, err, reason.ChallengeSpent)
	}
	if accepted != 1 {
		t.Errorf("%d of three quotes over one nonce were accepted", accepted)
	}
}

// TestTPM23_ExpiredToken waits out the life of a token.
func TestTPM23_TPM27_ExpiredToken(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	r := h.raw(p)
	r.enrol()
	ch := r.challenge(r.renewRequest())
	req := r.evidence(ch)
	time.Sleep(time.Until(ch.ExpiresAt.Add(100 * time.Millisecond)))
	_, err := r.client.Attest(t.Context(), req)
	wantCode(t, err, reason.ChallengeExpired)
}

// TestSnapshotRestored: counters or clock of a restored snapshot go back.
func TestSnapshotRestored(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	for _, tt := range []struct {
		name      string
		meanwhile func(h *host)
	}{
		{"tpm-28_clock_smaller_with_the_same_counters", func(h *host) {
			h.boot(build.Machine{}.Log())
			h.setClock(600_000)
		}},
		{"tpm-29_resetCount_smaller", func(h *host) {
			h.boot(build.Machine{}.Log())
			h.boot(build.Machine{}.Log())
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t, c.rig)
			h.admit(p)
			h.mustAttest(p)
			h.snapshotRestore(t, func() {
				tt.meanwhile(h)
				h.mustAttest(p)
			})
			_, err := h.attest(p)
			wantCode(t, err, reason.TPM2RolledBack)
		})
	}
}

// TestTPM51_ReplayedCredential: the secret of one enrolment proves nothing in
// another.
func TestTPM50_TPM51_T15_ReplayedCredential(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	r := h.raw(p)
	old, fresh := r.challenge(r.enrolRequest()), r.challenge(r.enrolRequest())
	req := r.evidence(old)
	req.Token = fresh.Token
	_, err := r.client.Attest(t.Context(), req)
	wantCode(t, err, reason.TPM2AKActivationFailed)
	// T19: what the stranger is told holds nothing of the secret.
	if e := refusal(err); e == nil || len(e.Reasons) > 1 {
		t.Errorf("told: %+v", e)
	}
}

// snapshotRestore takes a snapshot of the TPM's state, lets time go on, and puts
// the snapshot back.
func (h *host) snapshotRestore(t *testing.T, meanwhile func()) {
	t.Helper()
	dir := h.tpm.Dir()
	must(t, h.tpm.Stop(t.Context()))
	saved := dir + "-saved"
	must(t, cloneTPM(saved, dir))
	h.powerOn(dir)
	meanwhile()
	must(t, h.tpm.Stop(t.Context()))
	h.powerOn(saved)
	h.boot(build.Machine{}.Log())
}
