package swtpm_test

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/deploy/hostdeps/hostdepstest"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func program(t testing.TB) string {
	t.Helper()
	return hostdepstest.Program(t, hostdeps.SWTPM, "swtpm")
}

// folder returns a short folder: the names of tests would make socket paths too
// long.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "zb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func start(t testing.TB, cfg swtpm.Config) *swtpm.TPM {
	t.Helper()
	cfg.SWTPM = program(t)
	if cfg.Dir == "" {
		cfg.Dir = folder(t)
	}
	m, err := swtpm.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	return m
}

func open(t testing.TB, m *swtpm.TPM) transport.TPMCloser {
	t.Helper()
	c, err := linuxudstpm.Open(m.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// readPCRs reads all PCRs of a bank, eight at a time as TPMs return them.
func readPCRs(t testing.TB, c transport.TPM, alg tpm2.TPMAlgID) map[int][]byte {
	t.Helper()
	out := map[int][]byte{}
	for i := range 3 {
		mask := make([]byte, 3)
		mask[i] = 0xff
		r, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: alg, PCRSelect: mask}}}}.Execute(c)
		if err != nil {
			t.Fatal(err)
		}
		for j, d := range r.PCRValues.Digests {
			out[8*i+j] = d.Buffer
		}
	}
	if len(out) != eventlog.PCRs {
		t.Fatalf("read %d PCRs", len(out))
	}
	return out
}

// explain parses the log and demands that it explains all 24 PCRs of the TPM.
func explain(t testing.TB, log *build.Builder, quoted map[int][]byte) (eventlog.Explained, error) {
	t.Helper()
	parsed, err := eventlog.Parse(log.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Explain(quoted)
}

func TestBootedPCRsAreExplainedByTheLog(t *testing.T) {
	m := start(t, swtpm.Config{})
	log := build.Machine{}.Log()
	if err := m.Boot(t.Context(), log.Extends()); err != nil {
		t.Fatal(err)
	}
	x, err := explain(t, log, readPCRs(t, open(t, m), tpm2.TPMAlgSHA256))
	if err != nil {
		t.Fatal(err)
	}
	if x.SecureBoot() != eventlog.SecureBootOn {
		t.Errorf("secure boot = %s: %v", x.SecureBoot(), x.SecureBootUnproved())
	}
	_, err = explain(t, build.Machine{Kernel: []byte("other")}.Log(), readPCRs(t, open(t, m), tpm2.TPMAlgSHA256))
	if reason.Of(err) != reason.EventLogReplayMismatch {
		t.Errorf("log of another boot: %v", err)
	}
}

// TestQuotedPCRsAreExplainedByTheLog goes over a signed quote: the digest in it
// is that of the replayed values.
func TestQuotedPCRsAreExplainedByTheLog(t *testing.T) {
	m := start(t, swtpm.Config{})
	log := build.Machine{}.Log()
	if err := m.Boot(t.Context(), log.Extends()); err != nil {
		t.Fatal(err)
	}
	c := open(t, m)
	ak, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHEndorsement,
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
				CurveID: tpm2.TPMECCNistP256,
				Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			}),
		}),
	}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	mask := []byte{0xff, 0x43, 0x00}
	q, err := tpm2.Quote{
		SignHandle: tpm2.AuthHandle{Handle: ak.ObjectHandle, Name: ak.Name, Auth: tpm2.PasswordAuth(nil)},
		PCRSelect:  tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: mask}}},
		InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
	}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	attest, err := q.Quoted.Contents()
	if err != nil {
		t.Fatal(err)
	}
	quote, err := attest.Attested.Quote()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := eventlog.Parse(log.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var concat []byte
	for i, v := range parsed.Replay() {
		if mask[i/8]&(1<<(i%8)) != 0 {
			concat = append(concat, v...)
		}
	}
	h := tpm2.TPMAlgSHA256
	want, err := h.Hash()
	if err != nil {
		t.Fatal(err)
	}
	d := want.New()
	d.Write(concat)
	if !bytes.Equal(d.Sum(nil), quote.PCRDigest.Buffer) {
		t.Error("the quoted digest is not that of the replayed PCRs")
	}
}

func TestBanks(t *testing.T) {
	m := start(t, swtpm.Config{})
	r, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}.Execute(open(t, m))
	if err != nil {
		t.Fatal(err)
	}
	banks, err := r.CapabilityData.Data.AssignedPCR()
	if err != nil {
		t.Fatal(err)
	}
	var active []tpm2.TPMAlgID
	for _, b := range banks.PCRSelections {
		if !bytes.Equal(b.PCRSelect, []byte{0, 0, 0}) {
			active = append(active, b.Hash)
		}
	}
	if want := []tpm2.TPMAlgID{tpm2.TPMAlgSHA1, tpm2.TPMAlgSHA256}; !slices.Equal(active, want) {
		t.Errorf("active banks %v, want %v: a bank that no log explains is anyone's to extend", active, want)
	}
}

func TestRebootWithAnotherKernel(t *testing.T) {
	m := start(t, swtpm.Config{})
	first, second := build.Machine{}.Log(), build.Machine{KernelVersion: "6.12.1", Kernel: []byte("another kernel")}.Log()
	if err := m.Boot(t.Context(), first.Extends()); err != nil {
		t.Fatal(err)
	}
	c := open(t, m)
	before := clock(t, c)
	if err := m.Reboot(t.Context(), second.Extends()); err != nil {
		t.Fatal(err)
	}
	pcrs := readPCRs(t, c, tpm2.TPMAlgSHA256)
	if _, err := explain(t, second, pcrs); err != nil {
		t.Errorf("log of the second boot: %v", err)
	}
	if _, err := explain(t, first, pcrs); reason.Of(err) != reason.EventLogReplayMismatch {
		t.Errorf("log of the first boot: %v", err)
	}
	after := clock(t, c)
	if after.ResetCount != before.ResetCount+1 || !bool(after.Safe) {
		t.Errorf("clock before %+v, after %+v: want one reset and safe", before, after)
	}
}

func TestResetLeavesResetValues(t *testing.T) {
	m := start(t, swtpm.Config{})
	if err := m.Boot(t.Context(), build.Machine{}.Log().Extends()); err != nil {
		t.Fatal(err)
	}
	if err := m.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := eventlog.Unlogged(readPCRs(t, open(t, m), tpm2.TPMAlgSHA256)); err != nil {
		t.Error(err)
	}
}

func TestCutPowerIsNotSafe(t *testing.T) {
	m := start(t, swtpm.Config{})
	c := open(t, m)
	before := clock(t, c)
	if err := m.CutPower(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := clock(t, c)
	if after.ResetCount != before.ResetCount+1 || bool(after.Safe) {
		t.Errorf("clock before %+v, after %+v: want one reset and not safe", before, after)
	}
}

func clock(t testing.TB, c transport.TPM) tpm2.TPMSClockInfo {
	t.Helper()
	r, err := tpm2.ReadClock{}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	return r.CurrentTime.ClockInfo
}

func BenchmarkBoot(b *testing.B) {
	m := start(b, swtpm.Config{})
	extends := build.Machine{}.Log().Extends()
	b.ReportMetric(float64(len(extends)), "extends")
	for b.Loop() {
		if err := m.Reboot(b.Context(), extends); err != nil {
			b.Fatal(err)
		}
	}
}
