package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	statusVersion = 1
	statusFile    = "status.json"
	maxStatus     = 256 << 10 // bytes
	// silence is how old a status of a living loop can be: it writes one at least
	// each slice, and one attestation lies between two.
	silence = slice + attemptTime + 30*time.Second
)

// Phase says in one word what an agent can serve.
type Phase string

// The phases.
const (
	PhaseAttested Phase = "attested" // in a zone, and the evidence is fresh
	PhaseStale    Phase = "stale"    // in a zone past fresh_until, within its grace
	PhaseDenied   Phase = "denied"   // the broker refused this host; nothing is served
	PhaseNone     Phase = "none"     // never attested, or what was earned has expired
)

// Status is what an agent knows of itself; status.json in the state folder holds
// the last one. It has no secret. Times are UTC.
type Status struct {
	Version     int       `json:"version"`
	PID         int       `json:"pid"`
	StartedAt   time.Time `json:"started_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	Server      string    `json:"server"`
	Phase       Phase     `json:"phase"`
	TrustDomain string    `json:"trust_domain"` // "" before the first answer
	Node        string    `json:"node"`         // "" before the first answer

	// Of the zone; zero without one.
	SPIFFEID      string    `json:"spiffe_id"`
	Zone          string    `json:"zone"`
	Tier          int       `json:"tier"`
	AttestationID string    `json:"attestation_id"`
	AttestedAt    time.Time `json:"attested_at,omitzero"`
	FreshUntil    time.Time `json:"fresh_until,omitzero"`
	ExpiresAt     time.Time `json:"expires_at,omitzero"`
	Workloads     []string  `json:"workloads"` // that the zone lists for this host

	NextAttempt time.Time `json:"next_attempt"`
	Failures    int       `json:"failures"`               // in a row
	LastAttempt *Attempt  `json:"last_attempt,omitempty"` // nil before the first of this process
}

// Attempt is what an attestation came to. Code is "" where it earned a zone.
type Attempt struct {
	At        time.Time     `json:"at"`
	Took      time.Duration `json:"took_ns"`
	Code      string        `json:"code,omitempty"`
	Detail    string        `json:"detail,omitempty"`
	Remedy    string        `json:"remedy,omitempty"`
	RequestID string        `json:"request_id,omitempty"`
}

// Codes of failures that have no reason code, because no broker gave them.
const (
	CodeUnreachable = "broker.unreachable"
	CodeUntrusted   = "broker.untrusted"
	CodeAnswer      = "broker.answer"
)

// attempted describes the outcome of an attestation.
func attempted(began, ended time.Time, err error) *Attempt {
	a := &Attempt{At: began.UTC().Round(0), Took: ended.Sub(began)}
	if err == nil {
		return a
	}
	a.Code, a.Detail = "error", err.Error()
	if e, ok := errors.AsType[*client.RefusedError](err); ok {
		a.Code, a.Detail, a.Remedy, a.RequestID = string(e.Code), e.Detail, e.Remedy, e.RequestID
		if a.Remedy == "" {
			a.Remedy = api.Remedy(e.Code)
		}
	} else if e, ok := errors.AsType[*Fault](err); ok {
		a.Code, a.Remedy = string(e.Kind), e.Fix
	} else if _, ok := errors.AsType[*client.UntrustedError](err); ok {
		a.Code = CodeUntrusted
	} else if _, ok := errors.AsType[*client.UnreachableError](err); ok {
		a.Code = CodeUnreachable
	} else if e, ok := errors.AsType[*client.AnswerError](err); ok {
		a.Code, a.RequestID = CodeAnswer, e.RequestID
	} else if e, ok := errors.AsType[*reason.Error](err); ok {
		a.Code, a.Detail, a.Remedy = string(e.Code), e.Detail, api.Remedy(e.Code)
	}
	return a
}

// Status returns what the agent knows of itself.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

// report keeps the status for Status and writes it to the disk for others. One
// that cannot be written is no reason to stop: it gets old, and health says so.
func (a *Agent) report() {
	now, s := a.cfg.Now(), a.session.state
	status := Status{
		Version: statusVersion, PID: os.Getpid(), StartedAt: a.started.UTC().Round(0), UpdatedAt: now.UTC().Round(0),
		Server: a.cfg.Server, Phase: PhaseNone, TrustDomain: s.TrustDomain, Node: s.Node, Workloads: []string{},
		NextAttempt: a.next.UTC().Round(0), Failures: a.pace.failures, LastAttempt: a.last,
	}
	z := a.current()
	a.mu.Lock()
	if a.held.denied != "" {
		status.Phase = PhaseDenied
	}
	a.mu.Unlock()
	if z != nil {
		status.SPIFFEID, status.Zone, status.Tier, status.AttestationID = z.spiffeID.String(), z.name, z.tier, z.attestationID
		status.AttestedAt, status.FreshUntil, status.ExpiresAt = z.attestedAt.UTC(), z.freshUntil.UTC(), z.expiresAt.UTC()
		for _, w := range z.workloads {
			status.Workloads = append(status.Workloads, w.Name)
		}
		if status.Phase = PhaseAttested; !now.Before(z.freshUntil) {
			status.Phase = PhaseStale
		}
	}
	a.mu.Lock()
	a.status = status
	a.mu.Unlock()
	if text, err := json.MarshalIndent(status, "", "  "); err == nil {
		_ = replaceFile(a.session.folder.path, statusFile, append(text, '\n'))
	}
}

// replaceFile writes dir/name at once or not at all. It does not wait for the
// disk: after a crash of the host there is no agent that the status is about.
func replaceFile(dir, name string, content []byte) error {
	temporary, err := os.CreateTemp(dir, "."+name+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = temporary.Write(content)
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}

// Health is what a probe asks of an agent.
type Health struct {
	Live     bool   `json:"live"`     // a process holds the state folder, and its loop moves
	Ready    bool   `json:"ready"`    // it has an identity to serve
	Attested bool   `json:"attested"` // and the evidence behind it is fresh
	Detail   string `json:"detail"`   // one sentence
}

// ReadStatus reads the status of the agent whose state folder dir is, and judges
// its health at now. It is a *Fault of kind FaultState where the folder cannot
// be read, or holds no status of an agent.
func ReadStatus(dir string, now time.Time) (Status, Health, error) {
	fault := func(why, fix string, err error) (Status, Health, error) {
		return Status{}, Health{}, &Fault{Kind: FaultState, What: "read the agent's status", Why: why, Fix: fix, err: err}
	}
	file, err := os.Open(filepath.Join(dir, statusFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fault("no agent has run with the state folder "+dir, "start one with zoneagent run, or name its folder with --state DIR", err)
	}
	if err != nil {
		return fault(err.Error(), "ask as the user that the agent runs as, or as root", err)
	}
	defer file.Close()
	var s Status
	text, err := io.ReadAll(io.LimitReader(file, maxStatus))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil || s.Version != statusVersion {
		return fault(file.Name()+" is not a status of this version", "use the zoneagent that is running", err)
	}
	return s, s.health(running(dir), now), nil
}

// running says whether a process holds the lock of the state folder. The lock
// goes with the process, so a pid that was used again does not deceive.
func running(dir string) bool {
	lock, err := os.Open(filepath.Join(dir, lockFile))
	if err != nil {
		return false
	}
	defer lock.Close()
	return errors.Is(unix.Flock(int(lock.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func (s Status) health(running bool, now time.Time) Health {
	quiet := now.Sub(s.UpdatedAt)
	h := Health{Live: running && quiet < silence}
	h.Ready = h.Live && s.Zone != "" && now.Before(s.ExpiresAt)
	h.Attested = h.Ready && now.Before(s.FreshUntil)
	switch {
	case !running:
		h.Detail = "no agent is running"
	case !h.Live:
		h.Detail = fmt.Sprintf("the agent has not moved for %s", quiet.Round(time.Second))
	case h.Attested:
		h.Detail = "in zone " + s.Zone
	case h.Ready:
		h.Detail = "in zone " + s.Zone + ", but its evidence is no longer fresh"
	case s.Phase == PhaseDenied:
		h.Detail = "the broker refuses this host"
	default:
		h.Detail = "in no zone"
	}
	if a := s.LastAttempt; a != nil && a.Code != "" && h.Live {
		h.Detail += "; the last attestation ended with " + a.Code
	}
	return h
}
