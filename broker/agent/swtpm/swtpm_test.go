package swtpm_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// program returns the swtpm of the environment; a test run without one fails,
// because a silent skip would hide that nothing was tested.
func program(t testing.TB) string {
	t.Helper()
	name := os.Getenv("ZONEBROKER_SWTPM")
	if name == "" {
		name = "swtpm"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("swtpm is needed: %s, or set ZONEBROKER_SWTPM", swtpm.Install)
	}
	return path
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

func TestStateOutlivesTheProcess(t *testing.T) {
	dir := folder(t)
	ca, err := swtpm.OpenCA(filepath.Join(dir, "ca"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cfg := swtpm.Config{Dir: filepath.Join(dir, "tpm"), CA: ca}
	m := start(t, cfg)
	first, before := endorsements(t, m), clock(t, open(t, m))
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Stop(t.Context()); err != nil {
		t.Errorf("second stop: %v", err)
	}
	again := start(t, cfg)
	for i, e := range endorsements(t, again) {
		if !bytes.Equal(e.SPKI, first[i].SPKI) || !bytes.Equal(e.Certificate, first[i].Certificate) {
			t.Errorf("%s changed with a restart", e.Name)
		}
	}
	if after := clock(t, open(t, again)); after.ResetCount <= before.ResetCount || !bool(after.Safe) {
		t.Errorf("clock before %+v, after %+v", before, after)
	}
}

func endorsements(t testing.TB, m *swtpm.TPM) []swtpm.Endorsement {
	t.Helper()
	es, err := m.Endorsements()
	if err != nil {
		t.Fatal(err)
	}
	return es
}

// TestEndorsement reads the certificates from NV as an agent does, and checks
// them against the keys that the TPM makes from the templates.
func TestEndorsement(t *testing.T) {
	dir := folder(t)
	ca, err := swtpm.OpenCA(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m := start(t, swtpm.Config{Dir: filepath.Join(dir, "t"), CA: ca})
	c := open(t, m)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca.RootPEM()) {
		t.Fatal("root is not PEM")
	}
	public := map[string]tpm2.TPMTPublic{"rsa2048": tpm2.RSAEKTemplate, "p256": tpm2.ECCEKTemplate}
	for _, e := range endorsements(t, m) {
		t.Run(e.Name, func(t *testing.T) {
			raw := readNV(t, c, e.NVIndex)
			if !bytes.Equal(raw, e.Certificate) {
				t.Fatal("NV holds another certificate")
			}
			cert, err := x509.ParseCertificate(raw)
			if err != nil {
				t.Fatal(err)
			}
			ek, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(public[e.Name])}.Execute(c)
			if err != nil {
				t.Fatal(err)
			}
			defer tpm2.FlushContext{FlushHandle: ek.ObjectHandle}.Execute(c)
			out, err := ek.OutPublic.Contents()
			if err != nil {
				t.Fatal(err)
			}
			key, err := tpm2.Pub(*out)
			if err != nil {
				t.Fatal(err)
			}
			spki, err := x509.MarshalPKIXPublicKey(key)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(spki, cert.RawSubjectPublicKeyInfo) || !bytes.Equal(spki, e.SPKI) {
				t.Error("the certificate is for another key")
			}
			if len(cert.UnhandledCriticalExtensions) != 1 {
				t.Errorf("critical extensions: %v, want the alternative name alone", cert.UnhandledCriticalExtensions)
			}
			cert.UnhandledCriticalExtensions = nil // the alternative name, which Go leaves to the caller
			if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
				t.Error(err)
			}
		})
	}
}

func readNV(t testing.TB, c transport.TPM, index uint32) []byte {
	t.Helper()
	pub, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	info, err := pub.NVPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for len(out) < int(info.DataSize) {
		r, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Name: pub.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: pub.NVName},
			Size:       min(512, info.DataSize-uint16(len(out))), Offset: uint16(len(out)),
		}.Execute(c)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r.Data.Buffer...)
	}
	return out
}

func TestWithoutCAThereIsNoCertificate(t *testing.T) {
	m := start(t, swtpm.Config{})
	for _, e := range endorsements(t, m) {
		if e.Certificate != nil || len(e.SPKI) == 0 {
			t.Errorf("%s: certificate of %d bytes, key of %d", e.Name, len(e.Certificate), len(e.SPKI))
		}
		if _, err := (tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(e.NVIndex)}).Execute(open(t, m)); err == nil {
			t.Errorf("%s: NV index is defined", e.Name)
		}
	}
}

func TestTwoTPMsShareNoKey(t *testing.T) {
	a, b := endorsements(t, start(t, swtpm.Config{})), endorsements(t, start(t, swtpm.Config{}))
	for i := range a {
		if bytes.Equal(a[i].SPKI, b[i].SPKI) {
			t.Errorf("%s: two TPMs have one key", a[i].Name)
		}
	}
}

func TestCloneHasTheSameIdentityAndClock(t *testing.T) {
	dir := folder(t)
	cfg := swtpm.Config{Dir: filepath.Join(dir, "a")}
	m := start(t, cfg)
	want := endorsements(t, m)
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	clone := filepath.Join(dir, "b")
	if err := swtpm.Clone(clone, cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if err := swtpm.Clone(clone, cfg.Dir); err == nil {
		t.Error("a clone overwrote a TPM")
	}
	if err := swtpm.Clone(filepath.Join(dir, "c"), dir); err == nil {
		t.Error("cloned a folder that holds no TPM")
	}
	a, b := start(t, cfg), start(t, swtpm.Config{Dir: clone})
	got := endorsements(t, b)
	for i := range want {
		if !bytes.Equal(got[i].SPKI, want[i].SPKI) {
			t.Errorf("%s differs in the clone", want[i].Name)
		}
	}
	// The file could lie; the TPM's own key cannot.
	for _, m := range []*swtpm.TPM{a, b} {
		c := open(t, m)
		ek, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.ECCEKTemplate)}.Execute(c)
		if err != nil {
			t.Fatal(err)
		}
		out, err := ek.OutPublic.Contents()
		if err != nil {
			t.Fatal(err)
		}
		key, err := tpm2.Pub(*out)
		if err != nil {
			t.Fatal(err)
		}
		if spki, err := x509.MarshalPKIXPublicKey(key); err != nil || !bytes.Equal(spki, want[1].SPKI) {
			t.Errorf("endorsement key differs (%v)", err)
		}
	}
	if x, y := clock(t, open(t, a)), clock(t, open(t, b)); x.ResetCount != y.ResetCount {
		t.Errorf("reset counts %d and %d of clones", x.ResetCount, y.ResetCount)
	}
}

func TestDisconnectDoesNotEndTheTPM(t *testing.T) {
	m := start(t, swtpm.Config{})
	for range 5 {
		c, err := net.Dial("unix", m.Socket())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if err := m.Boot(t.Context(), build.Machine{}.Log().Extends()); err != nil {
		t.Error(err)
	}
}

func TestHeldSocketIsATimeoutNotAHang(t *testing.T) {
	m := start(t, swtpm.Config{})
	holder, err := net.Dial("unix", m.Socket())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := m.Boot(ctx, build.Machine{}.Log().Extends()); err == nil || !strings.Contains(err.Error(), "another client") {
		t.Errorf("boot while the socket is held: %v", err)
	}
	holder.Close()
	if err := m.Reboot(t.Context(), build.Machine{}.Log().Extends()); err != nil {
		t.Errorf("after the holder is gone: %v", err)
	}
}

func TestSecondStartInOneFolder(t *testing.T) {
	m := start(t, swtpm.Config{})
	_, err := swtpm.Start(t.Context(), swtpm.Config{SWTPM: program(t), Dir: m.Dir()})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second start: %v", err)
	}
	clock(t, open(t, m)) // the first one still answers on its socket
}

func TestRefusedConfigurations(t *testing.T) {
	dir := folder(t)
	for name, c := range map[string]struct {
		cfg  swtpm.Config
		want string
	}{
		"missing program":    {swtpm.Config{SWTPM: "/nonexistent/swtpm", Dir: dir}, swtpm.Install},
		"program that fails": {swtpm.Config{SWTPM: "/bin/false", Dir: dir}, "swtpm ended"},
		"long socket path":   {swtpm.Config{SWTPM: "/bin/false", Dir: filepath.Join(dir, strings.Repeat("d", 100))}, "107"},
		"comma in the path":  {swtpm.Config{SWTPM: "/bin/false", Dir: filepath.Join(dir, "a,b")}, "comma"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := swtpm.Start(t.Context(), c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestLongFolderWithShortSockets(t *testing.T) {
	dir := folder(t)
	m := start(t, swtpm.Config{Dir: filepath.Join(dir, strings.Repeat("d", 120)), Sockets: filepath.Join(dir, "s")})
	clock(t, open(t, m))
}

func TestCAIsKept(t *testing.T) {
	dir := folder(t)
	a, err := swtpm.OpenCA(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, err := swtpm.OpenCA(dir, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.RootPEM(), b.RootPEM()) {
		t.Error("the second opening made another root")
	}
	if err := os.WriteFile(filepath.Join(dir, "ek-root.key"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := swtpm.OpenCA(dir, time.Now()); err == nil {
		t.Error("a broken key was accepted")
	}
}

// TestInterruptedManufactureIsDoneAgain: the files that mark the end are missing,
// the NV indexes are there.
func TestInterruptedManufactureIsDoneAgain(t *testing.T) {
	dir := folder(t)
	ca, err := swtpm.OpenCA(filepath.Join(dir, "ca"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cfg := swtpm.Config{Dir: filepath.Join(dir, "t"), CA: ca}
	m := start(t, cfg)
	want := endorsements(t, m)
	m.Kill()
	if err := os.Remove(filepath.Join(cfg.Dir, "ek-p256.spki")); err != nil {
		t.Fatal(err)
	}
	again := start(t, cfg)
	for i, e := range endorsements(t, again) {
		if !bytes.Equal(e.SPKI, want[i].SPKI) {
			t.Errorf("%s changed", e.Name)
		}
		if !bytes.Equal(readNV(t, open(t, again), e.NVIndex), e.Certificate) {
			t.Errorf("%s: NV and file differ", e.Name)
		}
	}
}

// TestParentDeathEndsTheTPM runs a parent, kills it with SIGKILL, and looks for
// the child.
func TestParentDeathEndsTheTPM(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperParent$")
	cmd.Env = append(os.Environ(), "SWTPM_PARENT="+program(t), "SWTPM_DIR="+folder(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for s := bufio.NewScanner(out); pid == 0 && s.Scan(); {
		if text, ok := strings.CutPrefix(s.Text(), "swtpm pid "); ok {
			pid, err = strconv.Atoi(text)
		} else {
			t.Log(s.Text())
		}
	}
	if pid == 0 || err != nil {
		t.Fatalf("no pid from the parent (%v)", err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the TPM does not run: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for deadline := time.Now().Add(5 * time.Second); alive(pid); {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived its parent", pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// alive reports whether pid runs; a zombie that nobody reaps does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return !bytes.HasPrefix(rest, []byte("Z")) && !bytes.HasPrefix(rest, []byte("X"))
}

// TestHelperParent is the parent of TestParentDeathEndsTheTPM.
func TestHelperParent(t *testing.T) {
	program := os.Getenv("SWTPM_PARENT")
	if program == "" {
		t.Skip("runs as a process of its own only")
	}
	m, err := swtpm.Start(t.Context(), swtpm.Config{SWTPM: program, Dir: os.Getenv("SWTPM_DIR")})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("swtpm pid %d\n", m.PID())
	<-m.Done()
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
