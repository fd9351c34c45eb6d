package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent"
)

func TestStateIsPrivate(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	h.attest(t)
	file := filepath.Join(h.cfg.StateDir, "state.json")
	for path, mode := range map[string]os.FileMode{h.cfg.StateDir: 0o700, file: 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
	}
	left, err := filepath.Glob(filepath.Join(h.cfg.StateDir, ".*-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
	for name, open := range map[string]func() error{
		"file_readable_by_group":    func() error { return os.Chmod(file, 0o640) },
		"file_writable_by_others":   func() error { return os.Chmod(file, 0o602) },
		"folder_readable_by_others": func() error { return os.Chmod(h.cfg.StateDir, 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := open(); err != nil {
				t.Fatal(err)
			}
			defer os.Chmod(file, 0o600)
			defer os.Chmod(h.cfg.StateDir, 0o700)
			before := len(b.challenges)
			_, err := agent.Attest(t.Context(), h.cfg)
			if !isFault(err, agent.FaultState) || len(b.challenges) != before {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestStateIsReadStrictly(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	h.attest(t)
	good := h.state(t)
	for name, text := range map[string]string{
		"empty":          "",
		"truncated":      good[:len(good)/2],
		"unknown_member": strings.Replace(good, `"version": 1`, `"version": 1, "later": 2`, 1),
		"later_version":  strings.Replace(good, `"version": 1`, `"version": 2`, 1),
		"no_version":     strings.Replace(good, `"version": 1,`, ``, 1),
		"text_behind":    good + "{}",
		"wrong_type":     strings.Replace(good, `"enrolled": true`, `"enrolled": "yes"`, 1),
		"no_rotation":    `{"version": 1}`,
		"too_large":      good + strings.Repeat(" ", 5<<20),
	} {
		t.Run(name, func(t *testing.T) {
			if text == good {
				t.Fatal("the case does not change the state")
			}
			path := filepath.Join(h.cfg.StateDir, "state.json")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			before := len(b.challenges)
			_, err := agent.Attest(t.Context(), h.cfg)
			if !isFault(err, agent.FaultState) || len(b.challenges) != before {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestLeftoversOfAKill: a process that was killed while it wrote leaves its file.
func TestLeftoversOfAKill(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	h.cfg.StateDir = filepath.Join(h.dir, "a[b") // no pattern
	h.attest(t)
	kept := []string{".other-1", ".state.json", "state.json", "status.json-1", "lock"}
	for _, name := range append([]string{".state.json-123", ".status.json-456"}, kept...) {
		f, err := os.OpenFile(filepath.Join(h.cfg.StateDir, name), os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	h.attest(t)
	left, err := os.ReadDir(h.cfg.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	slices.Sort(kept)
	if !slices.Equal(names, kept) {
		t.Errorf("left: %v, want %v", names, kept)
	}
}

// TestOneAgentAState: two over one state would look like a clone to the broker.
func TestOneAgentAState(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	entered, leave := make(chan struct{}), make(chan struct{})
	b.refuseAttest = func(n int) error {
		if n == 0 {
			close(entered)
			<-leave
		}
		return nil
	}
	done := make(chan error, 1)
	go func() {
		_, err := agent.Attest(context.Background(), h.cfg)
		done <- err
	}()
	<-entered
	_, err := agent.Attest(t.Context(), h.cfg)
	if !isFault(err, agent.FaultState) {
		t.Errorf("got %v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestAnswerLost: the broker decided, the answer did not arrive. The agent still
// names what it has, and does not invent what it never received.
func TestAnswerLost(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	first := h.attest(t)
	b.refuseAttest = func(int) error { time.Sleep(2 * time.Second); return nil }
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := agent.Attest(ctx, h.cfg); err == nil {
		t.Fatal("the answer arrived")
	}
	b.mu.Lock()
	b.refuseAttest = nil
	b.mu.Unlock()
	h.attest(t)
	if got := b.last().Prev; got != first.AttestationID {
		t.Errorf("prev %q, want %q", got, first.AttestationID)
	}
}

func TestNewestCheckpoint(t *testing.T) {
	note := func(origin, size string) string { return origin + "\n" + size + "\nroot\n\n— k s\n" }
	for name, test := range map[string]struct{ held, got, want string }{
		"first":              {"", note("a", "3"), note("a", "3")},
		"larger":             {note("a", "3"), note("a", "4"), note("a", "4")},
		"smaller":            {note("a", "4"), note("a", "3"), note("a", "4")},
		"another_log":        {note("a", "4"), note("b", "1"), note("b", "1")},
		"none_came":          {note("a", "4"), "", note("a", "4")},
		"not_a_checkpoint":   {note("a", "4"), "x", note("a", "4")},
		"neither":            {"x", "y", ""},
		"negative_size":      {"", note("a", "-1"), ""},
		"empty_origin":       {"", note("", "1"), ""},
		"same_size_is_kept":  {note("a", "4"), "a\n4\nother\n", note("a", "4")},
		"larger_than_int_64": {"", note("a", "99999999999999999999"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := agent.Newest(test.held, test.got); got != test.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestReadJoinToken(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
		want string // "" refuses
	}{
		"private":       {"secret\n", 0o600, "secret"},
		"read_only":     {"secret", 0o400, "secret"},
		"group_reads":   {"secret", 0o640, ""},
		"others_read":   {"secret", 0o604, ""},
		"empty":         {" \n", 0o600, ""},
		"not_a_token":   {strings.Repeat("a", 2000), 0o600, ""},
		"absent":        {"", 0, ""},
		"world_writing": {"secret", 0o602, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			if test.mode != 0 {
				if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, test.mode); err != nil {
					t.Fatal(err)
				}
			}
			got, err := agent.ReadJoinToken(path)
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v", got, err)
			}
			if err != nil && !isFault(err, agent.FaultFile) {
				t.Errorf("got %T", err)
			}
		})
	}
}

// FuzzState: what lies in the folder never makes the agent panic, and what is
// accepted survives being written again.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"trust_domain":"example.org","rotation":"AAAA","ek":"rsa","ek_hash":"","ak":"p256","ak_name":"","enrolled":true}`))
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, text []byte) {
		again, ok := agent.RewriteState(text)
		if !ok {
			return
		}
		if third, ok := agent.RewriteState(again); !ok || string(third) != string(again) {
			t.Errorf("%s\n%s", again, third)
		}
	})
}
