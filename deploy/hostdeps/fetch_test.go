//go:build fetch

package hostdeps_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/store/embedded"
)

// TestFetchedProgramsRun takes nothing of the system: what runs here came
// through apt into an empty prefix. It needs a network and Debian or Ubuntu.
func TestFetchedProgramsRun(t *testing.T) {
	dir, err := embedded.TempDir("zb-fetch-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	prefix := filepath.Join(dir, "prefix")
	// What a killed fetch leaves.
	script(t, filepath.Join(prefix, ".work/state/lists"), "half", "")
	script(t, filepath.Join(prefix, "postgres/bin"), "postgres", "half")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	opts := hostdeps.Options{Prefix: prefix, PrefixOnly: true, Yes: true, Err: os.Stderr}
	found := together(ctx, t, opts)

	var said strings.Builder
	opts.Err, opts.Yes = &said, false
	if _, err := hostdeps.Ensure(ctx, opts); err != nil || said.Len() > 0 {
		t.Errorf("a second look fetched again: %v %s", err, said.String())
	}
	entries, _ := os.ReadDir(prefix)
	for _, e := range entries {
		t.Log("in the prefix: ", e.Name())
		if e.Name() == ".work" {
			t.Error("the work folder was left")
		}
	}
	t.Run("nothing of the machine is needed", func(t *testing.T) { needsOnlyBase(t, prefix) })
	t.Run("postgres", func(t *testing.T) { runPostgres(ctx, t, found, dir) })
	t.Run("swtpm", func(t *testing.T) { runSWTPM(ctx, t, found) })
	t.Run("openssl", func(t *testing.T) {
		if out, err := exec.CommandContext(ctx, found.Path("openssl"), "version").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("python3", func(t *testing.T) {
		// Code that C extensions bring is loaded, and one call of it made.
		const program = "import grpc, jwt; from google.protobuf import descriptor_pb2; from cryptography.hazmat.primitives.asymmetric import ec\n" +
			"grpc.insecure_channel('unix:/nowhere').close(); ec.generate_private_key(ec.SECP256R1()); import sys; print(sys.prefix)"
		out, err := exec.CommandContext(ctx, found.Path("python3"), "-I", "-c", program).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), prefix) {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("pgbouncer", func(t *testing.T) {
		if out, err := exec.CommandContext(ctx, found.Path("pgbouncer"), "--version").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("tpm2-tools", func(t *testing.T) {
		if out, err := exec.CommandContext(ctx, found.Path("tpm2_checkquote"), "--version").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// together fetches twice at once; one waits for the other and finds it done.
func together(ctx context.Context, t *testing.T, opts hostdeps.Options) hostdeps.Found {
	t.Helper()
	var found [2]hostdeps.Found
	var errs [2]error
	var wg sync.WaitGroup
	began := time.Now()
	for i := range found {
		wg.Go(func() { found[i], errs[i] = hostdeps.Ensure(ctx, opts) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("fetched in %v", time.Since(began).Round(time.Millisecond))
	return found[0]
}

// needsOnlyBase asks the loader where each library of each program is found. A
// library that this machine happens to have is not there on a fresh one.
func needsOnlyBase(t *testing.T, prefix string) {
	base := map[string]bool{}
	for _, name := range thisBase(t) {
		list, err := exec.Command("dpkg", "-L", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		for path := range strings.FieldsSeq(string(list)) {
			base[filepath.Base(path)] = true
		}
	}
	programs := 0
	for _, pattern := range []string{"*/root/usr/bin/*", "*/root/usr/sbin/*", "*/root/usr/lib/postgresql/*/bin/*", "*/root/usr/lib/python3/dist-packages/*/*/*.so", "*/root/usr/lib/python3/dist-packages/*/*/*/*.so"} {
		paths, _ := filepath.Glob(filepath.Join(prefix, pattern))
		for _, path := range paths {
			name, rest, _ := strings.Cut(strings.TrimPrefix(path, prefix+"/"), "/root/")
			root := filepath.Join(prefix, name, "root")
			libs, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-*"))
			more, _ := filepath.Glob(filepath.Join(root, "lib/*-linux-*"))
			inner, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-*/swtpm"))
			cmd := exec.Command("ldd", path)
			cmd.Env = []string{"LD_LIBRARY_PATH=" + strings.Join(append(append(libs, more...), inner...), ":"), "PATH=/usr/bin:/bin"}
			out, err := cmd.Output()
			if err != nil {
				continue // a script
			}
			programs++
			for line := range strings.Lines(string(out)) {
				lib, where, ok := strings.Cut(strings.TrimSpace(line), " => ")
				if ok && !strings.HasPrefix(where, prefix) && !base[filepath.Base(lib)] {
					t.Errorf("%s: %s comes from %s", rest, lib, where)
				}
			}
		}
	}
	t.Logf("%d programs", programs)
}

func runPostgres(ctx context.Context, t *testing.T, found hostdeps.Found, dir string) {
	s, err := embedded.Start(ctx, embedded.Config{
		Dir: filepath.Join(dir, "pg"), Bin: filepath.Dir(found.Path("postgres")), Env: found.Env(hostdeps.Postgres),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// runSWTPM makes a TPM with an EK certificate, which runs swtpm, swtpm_localca,
// swtpm_cert and certtool.
func runSWTPM(ctx context.Context, t *testing.T, found hostdeps.Found) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := filepath.Join(dir, "ca")
	if err := os.Mkdir(ca, 0o700); err != nil {
		t.Fatal(err)
	}
	localca := write("localca.conf", "statedir = "+ca+"\nsigningkey = "+ca+"/key.pem\nissuercert = "+ca+"/cert.pem\ncertserial = "+ca+"/serial\n")
	config := write("setup.conf", "create_certs_tool = "+found.Path("swtpm_localca")+
		"\ncreate_certs_tool_config = "+localca+"\ncreate_certs_tool_options = "+write("options", "")+"\n")
	args := []string{"--tpm2", "--tpmstate", dir, "--create-ek-cert", "--config", config}
	if os.Geteuid() == 0 {
		args = append(args, "--runas", "root") // otherwise it becomes the user tss
	}
	cmd := exec.CommandContext(ctx, found.Path("swtpm_setup"), args...)
	cmd.Env = append(os.Environ(), found.Env(hostdeps.SWTPM)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(ca, "cert.pem")); err != nil {
		t.Error(err)
	}
}
