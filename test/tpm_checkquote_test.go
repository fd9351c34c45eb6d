package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// checkquoteLab is a software TPM that nothing of ours commands, and the verifier
// of tpm2-tools.
type checkquoteLab struct {
	tpm   transport.TPMCloser
	check string
	env   []string
}

func newCheckquoteLab(t *testing.T) *checkquoteLab {
	t.Helper()
	programs, err := hostdeps.Ensure(t.Context(), hostdeps.Options{}, hostdeps.SWTPM, hostdeps.TPM2Tools)
	if err != nil {
		t.Fatal(err) // it names the command that installs them
	}
	dir, err := os.MkdirTemp("", "zbcq") // a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := swtpm.Start(t.Context(), swtpm.Config{
		SWTPM: programs.Path("swtpm"), Env: programs.Env(hostdeps.SWTPM), Dir: filepath.Join(dir, "tpm"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	conn, err := linuxudstpm.Open(s.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &checkquoteLab{
		tpm: conn, check: programs.Path("tpm2_checkquote"),
		env: append(os.Environ(), programs.Env(hostdeps.TPM2Tools)...),
	}
}

// tpmKey is a primary key of the endorsement hierarchy.
type tpmKey struct {
	handle gotpm.AuthHandle
	public []byte
	scheme gotpm.TPMAlgID
}

func (l *checkquoteLab) key(t *testing.T, kind gotpm.TPMAlgID, restricted bool) tpmKey {
	t.Helper()
	template := gotpm.TPMTPublic{
		Type: kind, NameAlg: gotpm.TPMAlgSHA256,
		ObjectAttributes: gotpm.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
			UserWithAuth: true, NoDA: true, Restricted: restricted, SignEncrypt: true,
		},
	}
	scheme := gotpm.TPMAlgECDSA
	if kind == gotpm.TPMAlgRSA {
		scheme = gotpm.TPMAlgRSASSA
		template.Parameters = gotpm.NewTPMUPublicParms(kind, &gotpm.TPMSRSAParms{
			Scheme:  gotpm.TPMTRSAScheme{Scheme: scheme, Details: gotpm.NewTPMUAsymScheme(scheme, &gotpm.TPMSSigSchemeRSASSA{HashAlg: gotpm.TPMAlgSHA256})},
			KeyBits: 2048,
		})
	} else {
		template.Parameters = gotpm.NewTPMUPublicParms(kind, &gotpm.TPMSECCParms{
			Scheme:  gotpm.TPMTECCScheme{Scheme: scheme, Details: gotpm.NewTPMUAsymScheme(scheme, &gotpm.TPMSSigSchemeECDSA{HashAlg: gotpm.TPMAlgSHA256})},
			CurveID: gotpm.TPMECCNistP256,
		})
	}
	rsp, err := gotpm.CreatePrimary{
		PrimaryHandle: gotpm.AuthHandle{Handle: gotpm.TPMRHEndorsement, Auth: gotpm.PasswordAuth(nil)},
		InPublic:      gotpm.New2B(template),
	}.Execute(l.tpm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = gotpm.FlushContext{FlushHandle: rsp.ObjectHandle}.Execute(l.tpm) })
	return tpmKey{
		handle: gotpm.AuthHandle{Handle: rsp.ObjectHandle, Name: rsp.Name, Auth: gotpm.PasswordAuth(nil)},
		public: rsp.OutPublic.Bytes(), scheme: scheme,
	}
}

// handedIn is what an agent would hand in.
type handedIn struct {
	public, attest, sig, qualifying []byte
	pcrs                            map[int][]byte
}

// checkquotePCRs are those that both verifiers are asked about; 0 and 7 are
// extended, so that no value is like another.
var checkquotePCRs = []int{0, 7, 14}

func (l *checkquoteLab) quote(t *testing.T, k tpmKey) handedIn {
	t.Helper()
	qualifying := sha256.Sum256([]byte("checkquote"))
	selection := gotpm.TPMLPCRSelection{PCRSelections: []gotpm.TPMSPCRSelection{{
		Hash: gotpm.TPMAlgSHA256, PCRSelect: gotpm.PCClientCompatible.PCRs(0, 7, 14),
	}}}
	rsp, err := gotpm.Quote{
		SignHandle: k.handle, QualifyingData: gotpm.TPM2BData{Buffer: qualifying[:]},
		InScheme: gotpm.TPMTSigScheme{Scheme: gotpm.TPMAlgNull}, PCRSelect: selection,
	}.Execute(l.tpm)
	if err != nil {
		t.Fatal(err)
	}
	read, err := gotpm.PCRRead{PCRSelectionIn: selection}.Execute(l.tpm)
	if err != nil {
		t.Fatal(err)
	}
	e := handedIn{
		public: k.public, attest: rsp.Quoted.Bytes(), sig: gotpm.Marshal(rsp.Signature),
		qualifying: qualifying[:], pcrs: map[int][]byte{},
	}
	for i, pcr := range checkquotePCRs {
		e.pcrs[pcr] = read.PCRValues.Digests[i].Buffer
	}
	return e
}

// theirs asks tpm2_checkquote.
func (l *checkquoteLab) theirs(t *testing.T, e handedIn) bool {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, parts ...[]byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, bytes.Join(parts, nil), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var values [][]byte
	for _, pcr := range checkquotePCRs {
		values = append(values, e.pcrs[pcr])
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), l.check, "-Q",
		"-u", write("ak.pub", binary.BigEndian.AppendUint16(nil, uint16(len(e.public))), e.public),
		"-m", write("quote", e.attest), "-s", write("sig", e.sig), "-g", "sha256",
		"-f", write("pcrs", values...), "-l", "sha256:0,7,14", "-q", hex.EncodeToString(e.qualifying))
	cmd.Env = l.env
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return err == nil
}

// ours asks the product's verifier.
func ours(e handedIn) error {
	ak, err := tpm2.ParseAK(e.public)
	if err != nil {
		return err
	}
	attested, err := tpm2.AuthenticateQuote(ak, e.attest, e.sig, e.qualifying)
	if err != nil {
		return err
	}
	_, err = attested.Quote(tpm2.SelectionOf(checkquotePCRs...), e.pcrs)
	return err
}

// spoil returns e with one bit of one part turned.
func (e handedIn) spoil(part string, i int) handedIn {
	turn := func(b []byte) []byte {
		out := bytes.Clone(b)
		out[i%len(out)] ^= 1
		return out
	}
	switch part {
	case "attest":
		e.attest = turn(e.attest)
	case "signature":
		e.sig = turn(e.sig)
	case "qualifying":
		e.qualifying = turn(e.qualifying)
	case "pcrs":
		values := map[int][]byte{}
		for pcr, v := range e.pcrs {
			values[pcr] = v
		}
		values[7] = turn(values[7])
		e.pcrs = values
	}
	return e
}

// TestTPM2CheckquoteAgrees: two verifiers that share no code say the same about
// quotes of a TPM that shares no code with either.
func TestTPM2CheckquoteAgrees(t *testing.T) {
	l := newCheckquoteLab(t)
	for _, pcr := range []uint32{0, 7} {
		sum := sha256.Sum256([]byte{byte(pcr)})
		if _, err := (gotpm.PCRExtend{
			PCRHandle: gotpm.AuthHandle{Handle: gotpm.TPMHandle(pcr), Auth: gotpm.PasswordAuth(nil)},
			Digests:   gotpm.TPMLDigestValues{Digests: []gotpm.TPMTHA{{HashAlg: gotpm.TPMAlgSHA256, Digest: sum[:]}}},
		}).Execute(l.tpm); err != nil {
			t.Fatal(err)
		}
	}
	for name, kind := range map[string]gotpm.TPMAlgID{"rsa": gotpm.TPMAlgRSA, "p256": gotpm.TPMAlgECC} {
		t.Run(name, func(t *testing.T) {
			good := l.quote(t, l.key(t, kind, true))
			if err := ours(good); err != nil || !l.theirs(t, good) {
				t.Fatalf("a good quote: ours %v, theirs %v", err, l.theirs(t, good))
			}
			for part, n := range map[string]int{"attest": len(good.attest), "signature": len(good.sig), "qualifying": 32, "pcrs": 32} {
				for i := 0; i < n; i += 1 + n/12 {
					bad := good.spoil(part, i)
					err, accepted := ours(bad), l.theirs(t, bad)
					if err == nil || accepted {
						t.Errorf("%s, byte %d turned: ours %v, theirs accepts: %v", part, i, err, accepted)
					}
				}
			}
		})
	}
}

// TestTPM43_ForgedByUnrestrictedKey: a TPM2_Sign over a made-up quote. A
// restricted key refuses; an unrestricted one signs, and a verifier that does
// not ask what kind of key it is believes it.
func TestTPM43_ForgedByUnrestrictedKey(t *testing.T) {
	l := newCheckquoteLab(t)
	restricted, free := l.key(t, gotpm.TPMAlgECC, true), l.key(t, gotpm.TPMAlgECC, false)
	forged := l.quote(t, restricted)
	forged.attest = bytes.Clone(forged.attest)
	forged.attest[len(forged.attest)-1] ^= 1 // another pcrDigest
	if _, err := l.sign(restricted, forged.attest); !errors.Is(err, gotpm.TPMRCTicket) {
		t.Errorf("the restricted key: %v, want TPM_RC_TICKET", err)
	}

	forged = l.quote(t, restricted)
	sig, err := l.sign(free, forged.attest)
	if err != nil {
		t.Fatal(err)
	}
	forged.sig, forged.public = sig, free.public
	if got := reason.Of(ours(forged)); got != reason.TPM2AKNotRestricted {
		t.Errorf("ours: %s", got)
	}
	t.Logf("tpm2_checkquote accepts the forgery: %v", l.theirs(t, forged))
}

func (l *checkquoteLab) sign(k tpmKey, message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	rsp, err := gotpm.Sign{
		KeyHandle: k.handle, Digest: gotpm.TPM2BDigest{Buffer: digest[:]},
		InScheme:   gotpm.TPMTSigScheme{Scheme: gotpm.TPMAlgNull},
		Validation: gotpm.TPMTTKHashCheck{Tag: gotpm.TPMSTHashCheck, Hierarchy: gotpm.TPMRHNull},
	}.Execute(l.tpm)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return gotpm.Marshal(rsp.Signature), nil
}
