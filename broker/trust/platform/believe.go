package platform

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
)

// fetch asks for one object. Content without bytes means that what is held is
// still the newest.
func (r *refreshing) fetch(ctx context.Context, t target) (content, state, error) {
	k, _ := kindOf(t.Kind)
	if k.form == formCollateral {
		return r.fetchCollateral(ctx, t)
	}
	if k.form == formKeys && !strings.HasPrefix(r.from.place(t.address), "https://") {
		return content{}, state{}, mismatchError{errors.New("keys are believed over https only")}
	}
	known := state{}
	if t.held != nil {
		known = t.trial
	}
	got, err := r.from.get(ctx, t.address, k.max, known)
	if err != nil {
		return content{}, state{}, err
	}
	st := r.after(t, got)
	if got.unchanged {
		return content{}, st, nil
	}
	c, err := r.believe(t, k, got.raw)
	if err != nil {
		return content{}, state{}, mismatchError{fmt.Errorf("%s offers something else: %w", r.from.place(t.address), err)}
	}
	if t.held != nil && bytes.Equal(c.raw, t.held.raw) {
		c.raw = nil
	}
	return c, st, nil
}

// believe reads an answer and checks that it is what was asked for.
func (r *refreshing) believe(t target, k kind, raw []byte) (content, error) {
	if t.row != nil && len(t.row.SHA256) > 0 {
		return published(raw, *t.row)
	}
	if k.form == formKeys {
		return r.wrapKeys(t, k, raw)
	}
	c, err := k.read(raw)
	if err != nil {
		return content{}, err
	}
	switch k.form {
	case formCRL:
		return c, r.believeList(t, c)
	case formVCEK:
		want, err := parseChip(t.Name)
		if err != nil {
			return content{}, err
		}
		return c, believeVCEK(c, want, r.certsOf(verifier.TrustSNP))
	}
	return content{}, fmt.Errorf("objects of kind %s are imported", t.Kind)
}

// published takes the certificates of a row out of an answer: PEM, DER, or a zip
// file with one of these.
func published(raw []byte, row Row) (content, error) {
	certs, err := certificates(unzip(raw))
	if err != nil {
		return content{}, err
	}
	by := map[[32]byte]*x509.Certificate{}
	for _, c := range certs {
		by[sha256.Sum256(c.Raw)] = c
	}
	var out []*x509.Certificate
	for _, sum := range row.SHA256 {
		c := by[sum]
		if c == nil {
			return content{}, fmt.Errorf("no certificate with SHA-256 %s", hex.EncodeToString(sum[:]))
		}
		out = append(out, c)
	}
	return ofCertificates(out), nil
}

// unzip returns the first certificate file of a zip file, and anything else as it
// is. What comes out is bounded by what may go in.
func unzip(raw []byte) []byte {
	if !bytes.HasPrefix(raw, []byte("PK\x03\x04")) {
		return raw
	}
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return raw
	}
	for _, file := range z.File {
		switch path.Ext(file.Name) {
		case ".pem", ".crt", ".cer", ".der":
		default:
			continue
		}
		in, err := file.Open()
		if err != nil {
			return raw
		}
		out, err := io.ReadAll(io.LimitReader(in, 64<<10))
		_ = in.Close()
		if err == nil {
			return out
		}
	}
	return raw
}

// wrapKeys puts a JWK set under its issuer: into the object that is held, of which
// all else stays, or into a new one of the row.
func (r *refreshing) wrapKeys(t target, k kind, raw []byte) (content, error) {
	if err := checkKeySet(raw); err != nil {
		return content{}, err
	}
	doc := map[string]json.RawMessage{}
	switch {
	case t.held != nil:
		if err := json.Unmarshal(t.held.raw, &doc); err != nil {
			return content{}, err
		}
	case t.row != nil:
		for name, text := range map[string]string{"format": t.row.Format, "issuer": t.row.Subject} {
			quoted, err := json.Marshal(text)
			if err != nil {
				return content{}, err
			}
			doc[name] = quoted
		}
	}
	doc["jwks"] = raw
	out, err := json.Marshal(doc)
	if err != nil {
		return content{}, err
	}
	return k.read(out)
}

// believeList takes a list that AMD's root signed, for the root of the row, in
// force, and not older than the one that is held: who could show an old one would
// take revocations back.
func (r *refreshing) believeList(t target, c content) error {
	now := r.from.now()
	switch {
	case t.row != nil && t.row.Subject != "CN="+c.crl.Issuer.CommonName:
		return fmt.Errorf("a list of %s", c.crl.Issuer.CommonName)
	case !listSigned(c.crl, r.certsOf(signersOf[t.Kind])):
		return fmt.Errorf("no CA of %s in the folder has signed it", signersOf[t.Kind])
	case now.Before(c.begins) || !now.Before(c.ends):
		return fmt.Errorf("a list for %s to %s", c.begins.Format(time.DateOnly), c.ends.Format(time.DateOnly))
	case t.held != nil && c.begins.Before(t.held.begins):
		return errors.New("a list that is older than the one in the folder")
	}
	return nil
}

// Intel's addresses (Intel Trusted Services, Provisioning Certification Service,
// version 4).
const (
	intelService = "https://api.trustedservices.intel.com"
	intelRootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
	intelPCKCRL  = intelService + "/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
	intelQE      = intelService + "/tdx/certification/v4/qe/identity"
)

func tcbAddress(fmspc string) string {
	return intelService + "/tdx/certification/v4/tcb?fmspc=" + url.QueryEscape(strings.ToUpper(fmspc))
}

// fetchCollateral puts the four answers for one FMSPC together.
func (r *refreshing) fetchCollateral(ctx context.Context, t target) (content, state, error) {
	k, _ := kindOf(t.Kind)
	var answers [4]answer
	for i, address := range []string{t.address, intelQE, intelPCKCRL, intelRootCRL} {
		var err error
		if answers[i], err = r.from.get(ctx, address, k.max/2, state{}); err != nil {
			return content{}, state{}, err
		}
	}
	c, err := assemble(answers)
	if err != nil {
		return content{}, state{}, mismatchError{err}
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return content{}, state{}, err
	}
	parsed, err := readCollateral(raw)
	if err == nil {
		err = r.believeCollateral(t, &parsed)
	}
	if err != nil {
		return content{}, state{}, mismatchError{err}
	}
	st := r.after(t, answers[0])
	st.ETag, st.Changed = "", ""
	if t.held != nil && bytes.Equal(raw, t.held.raw) {
		return content{}, st, nil
	}
	return content{raw: raw, subject: parsed.fmspc, begins: parsed.issued, ends: parsed.ends}, st, nil
}

func (r *refreshing) believeCollateral(t target, c *collateral) error {
	now := r.from.now()
	switch {
	case c.fmspc != t.Name:
		return fmt.Errorf("collateral of FMSPC %s", c.fmspc)
	case now.Before(c.issued) || !now.Before(c.ends):
		return fmt.Errorf("collateral for %s to %s", c.issued.Format(time.DateOnly), c.ends.Format(time.DateOnly))
	case t.held != nil && c.issued.Before(t.held.begins):
		return errors.New("collateral that is older than that in the folder")
	}
	return c.believe(r.certsOf(verifier.TrustIntel))
}

// assemble takes the signed texts out of the answers, byte for byte, and their
// chains out of the headers.
func assemble(a [4]answer) (collateral, error) {
	var tcb struct {
		Info      json.RawMessage `json:"tcbInfo"`
		Signature string          `json:"signature"`
	}
	var qe struct {
		Identity  json.RawMessage `json:"enclaveIdentity"`
		Signature string          `json:"signature"`
	}
	if err := errors.Join(json.Unmarshal(a[0].raw, &tcb), json.Unmarshal(a[1].raw, &qe)); err != nil {
		return collateral{}, err
	}
	pck, err := readCRL(a[2].raw)
	if err != nil {
		return collateral{}, err
	}
	root, err := readCRL(a[3].raw)
	if err != nil {
		return collateral{}, err
	}
	c := collateral{
		TCBInfo: string(tcb.Info), TCBSignature: tcb.Signature, QEIdentity: string(qe.Identity), QESignature: qe.Signature,
		PCKCRL: hex.EncodeToString(pck.raw), RootCRL: hex.EncodeToString(root.raw),
	}
	for _, chain := range []struct {
		to     *string
		from   answer
		header string
	}{
		{&c.TCBChain, a[0], "TCB-Info-Issuer-Chain"},
		{&c.QEChain, a[1], "SGX-Enclave-Identity-Issuer-Chain"},
		{&c.PCKCRLChain, a[2], "SGX-PCK-CRL-Issuer-Chain"},
	} {
		text, err := url.PathUnescape(chain.from.header.Get(chain.header))
		if err != nil || text == "" {
			return collateral{}, fmt.Errorf("header %s is missing", chain.header)
		}
		*chain.to = text
	}
	return c, nil
}
