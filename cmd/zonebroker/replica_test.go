package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// firstBroker makes a folder whose database others can reach.
func firstBroker(t *testing.T, more string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "first")
	if _, err := initDir(dir, "example.org", "127.0.0.1:8443", time.Now()); err != nil {
		t.Fatal(err)
	}
	text := "# kept\ntrust_domain: example.org\nlisten: \"127.0.0.1:8443\"\ndatabase: postgres://zb_writer@db/zonebroker\nreplica: first\n" + more
	if err := os.WriteFile(filepath.Join(dir, configFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, policyDir, "a.yaml"), []byte("kind: Zone\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, logAnchor), []byte("held"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"jwks": "{}", ".state/jwks": "{ }"} {
		if err := os.MkdirAll(filepath.Join(dir, trustDir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, trustDir, name, "a.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mustRead(t *testing.T, path ...string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestReplicaWithALogOfItsOwn(t *testing.T) {
	first := firstBroker(t, "log_id: main\n")
	second := filepath.Join(t.TempDir(), "second")
	pin, err := initReplica(second, first, "second", "127.0.0.1:9443")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig(second)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.LogID != "second" || cfg.Listen != "127.0.0.1:9443" || cfg.Replica == "first" || !strings.HasPrefix(mustRead(t, second, configFile), "# kept\n") {
		t.Errorf("configuration: %s", mustRead(t, second, configFile))
	}
	mine, err := loadKeys(second, cfg)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := loadKeys(first, mustLoad(t, first))
	if err != nil {
		t.Fatal(err)
	}
	if mine.cluster != theirs.cluster || mine.anchor.Pin() != pin || theirs.anchor.Pin() != pin {
		t.Error("the replicas do not share cluster key and anchor")
	}
	if mine.log.Name() != "example.org/zonebroker/second" || len(mine.otherLogs) != 1 || mine.otherLogs[0].Name() != "example.org/zonebroker/main" {
		t.Errorf("log %s, others %v", mine.log.Name(), mine.otherLogs)
	}
	if mustRead(t, second, policyDir, "a.yaml") != "kind: Zone\n" {
		t.Error("the zones are not those of the other")
	}
	// Keys without their state would count for ever.
	if mustRead(t, second, trustDir, "jwks", "a.json") != "{}" || mustRead(t, second, trustDir, ".state", "jwks", "a.json") != "{ }" {
		t.Error("the trust data is not that of the other")
	}
	if _, err := os.Stat(filepath.Join(second, logAnchor)); err == nil {
		t.Error("the anchor of another log was copied")
	}
	// As init says: the first broker gets the key of the second.
	if err := os.WriteFile(filepath.Join(first, "log-second.pub"), []byte(mustRead(t, second, logPublic)), 0o644); err != nil {
		t.Fatal(err)
	}
	if theirs, err = loadKeys(first, mustLoad(t, first)); err != nil || len(theirs.otherLogs) != 1 || logOf(theirs.otherLogs[0]) != "second" {
		t.Errorf("others %v, %v", theirs.otherLogs, err)
	}
	third := filepath.Join(t.TempDir(), "third")
	if _, err := initReplica(third, first, "second", ""); err == nil || !strings.Contains(err.Error(), "of that name already") {
		t.Errorf("a log twice: %v", err)
	}
	if _, err := initReplica(third, first, "third", ""); err != nil {
		t.Fatal(err)
	}
	if k, err := loadKeys(third, mustLoad(t, third)); err != nil || len(k.otherLogs) != 2 {
		t.Errorf("the third knows %v, %v", k.otherLogs, err)
	}
}

func mustLoad(t *testing.T, dir string) config {
	t.Helper()
	cfg, err := loadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestReplicaOfTheSameLog(t *testing.T) {
	first := firstBroker(t, "")
	second := filepath.Join(t.TempDir(), "second")
	if _, err := initReplica(second, first, "", ""); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(secretsDir, logKeyFile), logPublic} {
		if mustRead(t, first, name) != mustRead(t, second, name) {
			t.Errorf("%s differs", name)
		}
	}
	if mustLoad(t, second).LogID != "main" {
		t.Error("another log")
	}
}

func TestReplicaRefuses(t *testing.T) {
	first, private := firstBroker(t, ""), filepath.Join(t.TempDir(), "private")
	if _, err := initDir(private, "example.org", "127.0.0.1:8443", time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ of, log, want string }{
		"private":    {private, "second", "private Postgres"},
		"same_name":  {first, "main", "--log-id"},
		"bad_name":   {first, "../x", "--log-id"},
		"no_broker":  {t.TempDir(), "second", "is missing"},
		"long_name":  {first, strings.Repeat("a", 33), "--log-id"},
		"upper_case": {first, "Second", "--log-id"},
	} {
		dir := filepath.Join(t.TempDir(), "new")
		if _, err := initReplica(dir, c.of, c.log, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: something was made", name)
		}
	}
	if _, err := initReplica(first, first, "second", ""); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("a broker was overwritten: %v", err)
	}
}

// TestKeysOfOtherLogs: a key is of the log that its file is named for, and not of
// our own.
func TestKeysOfOtherLogs(t *testing.T) {
	first := firstBroker(t, "")
	own := mustRead(t, first, logPublic)
	for name, c := range map[string]struct{ file, text, want string }{
		"own":      {"log-main.pub", own, "this broker's own log"},
		"misnamed": {"log-other.pub", own, "is the key of log"},
		"no_key":   {"log-other.pub", "nothing", "not the public key of a log"},
	} {
		path := filepath.Join(first, c.file)
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := loadKeys(first, mustLoad(t, first)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInitOfAReplicaSaysWhatIsNext(t *testing.T) {
	first := firstBroker(t, "")
	dir := filepath.Join(t.TempDir(), "second")
	cmd := newInitCmd()
	var out, said bytes.Buffer
	cmd.SetArgs([]string{dir, "--replica-of", first, "--log-id", "second"})
	cmd.SetOut(&out)
	cmd.SetErr(&said)
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "sha256:") || !strings.Contains(said.String(), "to log-second.pub in the folder of every other broker") {
		t.Errorf("printed %q, said %q", out.String(), said.String())
	}
	cmd = newInitCmd()
	cmd.SetArgs([]string{filepath.Join(t.TempDir(), "x"), "--trust-domain", "example.org", "--log-id", "second"})
	cmd.SetErr(&said)
	cmd.SilenceUsage = true
	if err := cmd.Execute(); err == nil {
		t.Error("a first broker with a log of another name was made")
	}
}
