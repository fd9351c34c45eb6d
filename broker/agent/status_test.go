package agent_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent"
)

func TestStatusOfARunningAgent(t *testing.T) {
	b, h, c, r := fleetOfOne(t)
	read := func(at time.Time) (agent.Status, agent.Health) {
		t.Helper()
		s, health, err := agent.ReadStatus(h.cfg.StateDir, at)
		if err != nil {
			t.Fatal(err)
		}
		return s, health
	}
	s, health := read(c.Now())
	if s.Zone != "lab" || s.Node == "" || s.Tier != 2 || s.PID != os.Getpid() || len(s.Workloads) != 1 || s.LastAttempt.Code != "" {
		t.Errorf("%+v", s)
	}
	if want := (agent.Health{Live: true, Ready: true, Attested: true, Detail: "in zone lab"}); health != want {
		t.Errorf("%+v", health)
	}
	info, err := os.Stat(filepath.Join(h.cfg.StateDir, "status.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	b.leave()
	c.forward(6 * time.Minute)
	s, health = read(c.Now())
	if !health.Live || !health.Ready || health.Attested || s.Phase != agent.PhaseStale || !strings.Contains(health.Detail, agent.CodeUnreachable) {
		t.Errorf("after an outage: %+v", health)
	}
	// A loop that hangs holds its lock still.
	if _, health = read(c.Now().Add(agent.Silence + time.Second)); health.Live || health.Ready {
		t.Errorf("a loop that hangs: %+v", health)
	}
	c.forward(time.Hour)
	if s, health = read(c.Now()); !health.Live || health.Ready || s.Phase != agent.PhaseNone {
		t.Errorf("past the end: %+v", health)
	}
	r.end()
	if _, health = read(c.Now()); health.Live || health.Ready || health.Detail != "no agent is running" {
		t.Errorf("ended: %+v", health)
	}
}

// TestQuietLoopIsAlive: the status is written also while nothing happens.
func TestQuietLoopIsAlive(t *testing.T) {
	b, c := newBroker(t), newClock(t)
	b.now, b.maxAge, b.grace = c.Now, 24*time.Hour, time.Hour
	h := newHost(t, b)
	h.cfg.Spread = -1
	h.startAt(t, c)
	for range 20 {
		c.forward(3 * time.Minute)
		if s, health, err := agent.ReadStatus(h.cfg.StateDir, c.Now()); err != nil || !health.Live {
			t.Fatalf("%+v, %v, written at %s", health, err, s.UpdatedAt)
		}
	}
}

func TestNoStatus(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"none": "", "no JSON": "hello", "another version": `{"version": 2}`} {
		if text != "" {
			if err := os.WriteFile(filepath.Join(dir, "status.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := agent.ReadStatus(dir, time.Now()); !isFault(err, agent.FaultState) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestProbesDoNotKeepAgentsOut: asking whether an agent runs takes the lock for a
// moment.
func TestProbesDoNotKeepAgentsOut(t *testing.T) {
	_, h, c, r := fleetOfOne(t)
	r.end()
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _, _ = agent.ReadStatus(h.cfg.StateDir, c.Now())
			}
		}
	})
	for range 20 {
		a, err := agent.New(h.cfg)
		if err != nil {
			t.Error(err)
			break
		}
		a.Close()
	}
	close(stop)
	group.Wait()
}

// TestHungTPM: a TPM that takes a command and never answers.
func TestHungTPM(t *testing.T) {
	for name, patience := range map[string]time.Duration{"waits": time.Hour, "gives_up": 100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			_, h, c, r := fleetOfOne(t)
			r.end()
			socket := filepath.Join(h.dir, "hung")
			listener, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			c.jump(time.Second)
			h.cfg.Device = "swtpm:" + socket
			a, err := agent.New(h.cfg)
			if err != nil {
				t.Fatal(err)
			}
			c.mu.Lock()
			clear(c.timers)
			clear(c.asked)
			c.mu.Unlock()
			a.WaitBy(c.after, c.rand)
			a.BePatient(patience)
			r = runAgent(t, a)
			defer r.end()
			if name == "gives_up" {
				c.idle()
				if s := r.Status(); s.LastAttempt == nil || s.LastAttempt.Code != string(agent.FaultTPM) {
					t.Errorf("%+v", s)
				}
				return
			}
			r.until("the status is that of this process", func() bool {
				s, _, err := agent.ReadStatus(h.cfg.StateDir, c.Now())
				return err == nil && s.StartedAt.Equal(c.Now()) && s.Zone == "" && !s.NextAttempt.IsZero()
			})
		})
	}
}
