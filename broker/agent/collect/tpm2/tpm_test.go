package tpm2collect_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/deploy/hostdeps/hostdepstest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// credential makes one as a broker does, for any Name.
func credential(t *testing.T, ekPublic, name, secret []byte) (blob, encrypted []byte) {
	t.Helper()
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](ekPublic)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm2.ImportEncapsulationKey(public)
	if err != nil {
		t.Fatal(err)
	}
	blob, encrypted, err = tpm2.CreateCredential(rand.Reader, key, name, secret)
	if err != nil {
		t.Fatal(err)
	}
	return blob, encrypted
}

func TestActivateCredential(t *testing.T) {
	tpm := startTPM(t, "")
	other := startTPM(t, "")
	for _, ekKind := range []tpm2collect.Kind{tpm2collect.RSA, tpm2collect.P256, tpm2collect.RSAHigh, tpm2collect.P384} {
		for _, akKind := range []tpm2collect.Kind{tpm2collect.P256, tpm2collect.RSA} {
			t.Run(string(ekKind)+"_with_ak_"+string(akKind), func(t *testing.T) {
				host := tpm.open(t, tpm2collect.Config{EK: ekKind, AK: akKind})
				ek, err := host.EK(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				ak, err := host.AK(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				secret := bytes.Repeat([]byte{7}, 32)
				blob, encrypted := credential(t, ek.Public, ak.Name, secret)
				got, err := host.Activate(t.Context(), blob, encrypted)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(secret, got); diff != "" {
					t.Error(diff)
				}

				foreign := other.open(t, tpm2collect.Config{EK: ekKind, AK: akKind})
				secretText := hex.EncodeToString(secret)
				for name, bad := range map[string][2][]byte{
					"T14_credential_for_another_tpm":   {blob, encrypted},
					"T15_credential_for_another_name":  pair(credential(t, mustEK(t, foreign), bytes.Repeat([]byte{1}, 34), secret)),
					"T19_altered_blob":                 {flip(blob), encrypted},
					"T19_altered_secret":               {blob, flip(encrypted)},
					"T19_empty":                        {nil, nil},
					"T19_truncated_blob":               {blob[:5], encrypted},
					"T19_one_byte_of_encrypted_secret": {blob, encrypted[:1]},
				} {
					_, err := foreign.Activate(t.Context(), bad[0], bad[1])
					if reason.Of(err) != reason.TPM2AKActivationFailed {
						t.Errorf("%s: got %v, want %s", name, err, reason.TPM2AKActivationFailed)
					}
					if err != nil && strings.Contains(err.Error(), secretText) {
						t.Errorf("%s: the error tells the secret", name)
					}
				}
				if _, err := foreign.Quote(t.Context(), [3]byte{1}, nil); err != nil {
					t.Errorf("the TPM does not work after failed activations: %v", err)
				}
			})
		}
	}
}

func pair(a, b []byte) [2][]byte { return [2][]byte{a, b} }

func flip(b []byte) []byte {
	c := bytes.Clone(b)
	c[len(c)-1] ^= 1
	return c
}

func mustEK(t *testing.T, tpm *tpm2collect.TPM) []byte {
	t.Helper()
	ek, err := tpm.EK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ek.Public
}

func TestEKCertificate(t *testing.T) {
	tpm := startTPM(t, manufacture(t))
	check := func(t *testing.T, ask, want tpm2collect.Kind) {
		ek, err := tpm.open(t, tpm2collect.Config{EK: ask}).EK(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ek.Kind != want {
			t.Errorf("kind %s, want %s", ek.Kind, want)
		}
		certificate, err := x509.ParseCertificate(ek.Certificate)
		if err != nil {
			t.Fatalf("certificate of %d bytes: %v", len(ek.Certificate), err)
		}
		// Another program certified the key, so our template is the vendor's,
		// byte for byte.
		if sha256.Sum256(certificate.RawSubjectPublicKeyInfo) != ek.Hash {
			t.Error("the certificate is not for this endorsement key")
		}
	}
	t.Run("auto_takes_low_range_rsa", func(t *testing.T) { check(t, tpm2collect.Auto, tpm2collect.RSA) })
	t.Run("p384_when_asked", func(t *testing.T) { check(t, tpm2collect.P384, tpm2collect.P384) })
	t.Run("p256_when_asked_has_none", func(t *testing.T) {
		ek, err := tpm.open(t, tpm2collect.Config{EK: tpm2collect.P256}).EK(t.Context())
		if err != nil || ek.Certificate != nil || ek.Kind != tpm2collect.P256 {
			t.Errorf("got %s with %d bytes, %v", ek.Kind, len(ek.Certificate), err)
		}
	})
	tpm.undefine(t, 0x01c00002)
	t.Run("auto_takes_high_range_where_only_it_has_one", func(t *testing.T) { check(t, tpm2collect.Auto, tpm2collect.P384) })
	t.Run("none_is_rsa_without", func(t *testing.T) {
		ek, err := startTPM(t, "").open(t, tpm2collect.Config{}).EK(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ek.Kind != tpm2collect.RSA || ek.Certificate != nil {
			t.Errorf("got %s with %d bytes of certificate", ek.Kind, len(ek.Certificate))
		}
	})
}

func TestKeysAreTheSameAfterRestart(t *testing.T) {
	for _, kind := range []tpm2collect.Kind{tpm2collect.P256, tpm2collect.RSA} {
		t.Run(string(kind), func(t *testing.T) {
			first := startTPM(t, "")
			read := func(s *software, rotation string) (ek [32]byte, ak, svid string) {
				tpm := s.open(t, tpm2collect.Config{AK: kind, Rotation: []byte(rotation)})
				e, err := tpm.EK(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				a, err := tpm.AK(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				k, err := tpm.SVIDKey(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := tpm.Close(); err != nil {
					t.Fatal(err)
				}
				return e.Hash, string(a.Public), string(k.SPKI())
			}
			ek1, ak1, svid1 := read(first, "a")
			first.kill()
			second := startTPM(t, first.dir)
			ek2, ak2, svid2 := read(second, "a")
			if ek1 != ek2 || ak1 != ak2 || svid1 != svid2 {
				t.Error("keys differ after a restart")
			}
			if _, ak3, svid3 := read(second, "b"); svid3 == svid1 || ak3 != ak1 {
				t.Error("a rotation must change the SVID key and nothing else")
			}
		})
	}
}

func TestAttributes(t *testing.T) {
	host := startTPM(t, "").open(t, tpm2collect.Config{})
	ak, err := host.AK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	certified, err := host.Certify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		public []byte
		want   uint32
	}{"ak": {ak.Public, 0x50472}, "svid": {certified.Public, 0x40472}} {
		if got := binary.BigEndian.Uint32(test.public[4:8]); got != test.want {
			t.Errorf("%s attributes %#x, want %#x", name, got, test.want)
		}
	}
}

func TestSlots(t *testing.T) {
	tpm := startTPM(t, "")
	t.Run("left_behind_by_a_killed_agent", func(t *testing.T) {
		raw := tpm.raw(t)
		for range 3 {
			if _, err := (tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}).Execute(raw); err != nil {
				t.Fatal(err)
			}
		}
		_, err := (tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}).Execute(raw)
		if !errors.Is(err, tpm2.TPMRCObjectMemory) {
			t.Fatalf("the TPM has more than three slots: %v", err)
		}
		for range 3 {
			if _, _, err := tpm2.PolicySession(raw, tpm2.TPMAlgSHA256, 16); err != nil {
				t.Fatal(err)
			}
		}
		host := tpm.open(t, tpm2collect.Config{})
		ek := mustEK(t, host)
		ak, err := host.AK(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		blob, secret := credential(t, ek, ak.Name, make([]byte, 32))
		if _, err := host.Activate(t.Context(), blob, secret); err != nil {
			t.Error(err)
		}
	})
	t.Run("nothing_left_after_close", func(t *testing.T) {
		host := tpm.open(t, tpm2collect.Config{})
		for range 5 {
			mustEK(t, host)
			if _, err := host.Quote(t.Context(), [3]byte{1}, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := host.Certify(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := host.Close(); err != nil {
			t.Fatal(err)
		}
		if n := tpm.transient(t); n != 0 {
			t.Errorf("%d keys are still loaded", n)
		}
	})
	t.Run("others_fill_the_slots", func(t *testing.T) {
		host := tpm.open(t, tpm2collect.Config{})
		raw := tpm.raw(t)
		for range 3 {
			if _, err := (tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}).Execute(raw); err != nil {
				t.Fatal(err)
			}
		}
		_, err := host.AK(t.Context())
		e, ok := errors.AsType[*tpm2collect.Error](err)
		if !ok || e.Fix == "" {
			t.Errorf("got %v, want an error that says what to do", err)
		}
	})
}

// TestForeignTool lets tpm2-tools judge a quote of ours.
func TestForeignTool(t *testing.T) {
	check := hostdepstest.Program(t, hostdeps.TPM2Tools, "tpm2_checkquote")
	for _, kind := range []tpm2collect.Kind{tpm2collect.P256, tpm2collect.RSA} {
		t.Run(string(kind), func(t *testing.T) {
			host := startTPM(t, "").open(t, tpm2collect.Config{AK: kind})
			ak, err := host.AK(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			qualifying := bytes.Repeat([]byte{9}, 32)
			quote, err := host.Quote(t.Context(), [3]byte{0xff, 0x43, 0}, qualifying)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			file := func(name string, content []byte) string {
				path := filepath.Join(dir, name)
				writeFile(t, path, content)
				return path
			}
			args := []string{
				"-u", file("ak.pub", sized(ak.Public)), "-m", file("quote", quote.Attest),
				"-s", file("sig", quote.Signature), "-g", "sha256", "-q",
			}
			if out, err := exec.Command(check, append(args, hex.EncodeToString(qualifying))...).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if err := exec.Command(check, append(args, strings.Repeat("00", 32))...).Run(); err == nil {
				t.Error("the tool accepts another qualifying value, so it proves nothing")
			}
		})
	}
}

// sized puts the outer TPM2B size back, as tpm2-tools want it.
func sized(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}
