package agent

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zonebroker/zonebroker/broker/api"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
)

const (
	stateVersion = 1
	stateFile    = "state.json"
	lockFile     = "lock"
	maxState     = 4 << 20 // bytes; a bundle and a chain are some kilobytes
)

// State is what an agent keeps between runs. It holds no private key; where no TPM
// quotes, they lie beside it in files of their own. Losing it
// costs an event (node.state_lost); a copy of it on another host is what the
// broker finds as node.fork_suspected.
type State struct {
	Version     int    `json:"version"`
	TrustDomain string `json:"trust_domain"` // pinned at the first answer
	// Rotation makes the SVID key (tpm2collect.Config).
	Rotation api.Bytes `json:"rotation"`
	// Format is what names the node; "" is tpm2, as states said before there were
	// others.
	Format   string           `json:"format,omitempty"`
	EK       tpm2collect.Kind `json:"ek"`
	EKHash   string           `json:"ek_hash"` // hex; whose node this state is about
	AK       tpm2collect.Kind `json:"ak"`
	AKName   api.Bytes        `json:"ak_name"`
	Enrolled bool             `json:"enrolled"` // the broker accepted this AK

	Node string `json:"node"`
	Zone string `json:"zone"`
	Prev string `json:"prev"` // last attestation id that was received

	// Denied is the code with which the broker refused this host after its last
	// zone; "" while it has one. What Chain holds is shown to nobody then.
	Denied string `json:"denied,omitempty"`
	// Began is when this host's clock saw the last accepted attestation begin. The
	// other times are of the broker's clock, which may be another.
	Began      time.Time       `json:"began,omitzero"`
	AttestedAt time.Time       `json:"attested_at"`
	FreshUntil time.Time       `json:"fresh_until"`
	RenewAt    time.Time       `json:"renew_at"`
	Chain      []api.Bytes     `json:"chain"` // of the SVID, DER, leaf first
	Bundle     json.RawMessage `json:"bundle"`
	Checkpoint string          `json:"checkpoint"` // newest signed one that was received
	Workloads  []api.Workload  `json:"workloads"`

	// What the last accepted quote showed: the event log is sent again only when
	// one of them changed.
	ResetCount   uint32    `json:"reset_count"`
	RestartCount uint32    `json:"restart_count"`
	PCRs         api.Bytes `json:"pcrs"` // SHA-256 over the quoted values
}

// renewIn is how long after the last attestation began the next one is due, in the
// broker's words: renewals stand in the middle of what was left of fresh_until, which
// for an old document is less than attested_at says.
func (s *State) renewIn() time.Duration {
	return min(s.RenewAt.Sub(s.AttestedAt), s.FreshUntil.Sub(s.RenewAt))
}

// format names what the state is about.
func (s *State) format() string {
	if s.Format == "" {
		return api.FormatTPM2
	}
	return s.Format
}

// forget drops what belongs to the node that the state was about. Naming its last
// attestation as another node would look like a clone.
func (s *State) forget() {
	s.Prev, s.Node, s.Chain, s.Enrolled = "", "", nil, false
}

// folder is an open, locked state folder.
type folder struct {
	path string
	lock *os.File
}

func stateFault(why, fix string, err error) error {
	return &Fault{Kind: FaultState, What: "open the state folder", Why: why, Fix: fix, err: err}
}

// openFolder makes path where it does not exist and locks it: two agents over
// one state would look like two machines with one identity.
func openFolder(path string) (*folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, stateFault(err.Error(), "name a folder that this user may write with --state DIR", err)
	}
	if err := private(path, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, stateFault(err.Error(), "name a folder that this user may write with --state DIR", err)
	}
	if err := exclusive(lock); err != nil {
		lock.Close()
		return nil, stateFault("another agent uses "+path, "wait for it, or give this one a state of its own with --state DIR", err)
	}
	removeLeftovers(path)
	return &folder{path: path, lock: lock}, nil
}

// removeLeftovers removes what a process left that was killed while it wrote. The
// lock is held, so nobody writes now. What cannot be removed harms nothing.
func removeLeftovers(path string) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return
	}
	for _, e := range entries {
		mine := slices.ContainsFunc([]string{stateFile, statusFile, agentKeyFile, svidKeyFile}, func(name string) bool {
			return strings.HasPrefix(e.Name(), "."+name+"-")
		})
		if mine && e.Type().IsRegular() {
			_ = os.Remove(filepath.Join(path, e.Name()))
		}
	}
}

// exclusive takes the lock. A status or a probe holds it shared for the moment
// in which it asks whether an agent runs.
func exclusive(lock *os.File) error {
	var err error
	for range 10 {
		if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return nil
		}
		<-time.NewTimer(20 * time.Millisecond).C
	}
	return err
}

func (f *folder) close() error { return f.lock.Close() }

// private refuses what group or others may touch, or somebody else owns:
// whoever writes the state chooses the bundle that is trusted next.
func private(path string, mode fs.FileMode) error {
	info, err := os.Stat(path)
	if err != nil {
		return stateFault(err.Error(), "", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return stateFault(fmt.Sprintf("%s has mode %04o; others can read or change it", path, info.Mode().Perm()), fmt.Sprintf("chmod %04o %s", mode, path), nil)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return stateFault(err.Error(), "", err)
	}
	if int(st.Uid) != os.Geteuid() {
		return stateFault(fmt.Sprintf("%s belongs to user %d, not to this one", path, st.Uid), fmt.Sprintf("chown %d %s", os.Geteuid(), path), nil)
	}
	return nil
}

// load reads the state; a folder without one yields a new state, which is
// written before its rotation value is used for a key.
func (f *folder) load() (*State, error) {
	path := filepath.Join(f.path, stateFile)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		s := &State{Version: stateVersion, Rotation: make([]byte, 16)}
		if _, err := rand.Read(s.Rotation); err != nil {
			return nil, err
		}
		return s, f.save(s)
	}
	if err != nil {
		return nil, stateFault(err.Error(), "", err)
	}
	defer file.Close()
	if err := private(path, 0o600); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxState+1))
	if err != nil {
		return nil, stateFault(err.Error(), "", err)
	}
	return parseState(text, path)
}

func parseState(text []byte, path string) (*State, error) {
	spoilt := func(why string, err error) error {
		return stateFault(path+": "+why, "move the file away; the host then enrols again, as node.state_lost", err)
	}
	if len(text) > maxState {
		return nil, spoilt("larger than any state", nil)
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, spoilt("not a state file", err)
	}
	if version.Version != stateVersion {
		return nil, stateFault(fmt.Sprintf("%s has version %d, this agent knows %d", path, version.Version, stateVersion), "use the agent that wrote it, or a newer one", nil)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var s State
	if err := d.Decode(&s); err != nil {
		return nil, spoilt("not a state file", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, spoilt("text behind the state", nil)
	}
	if len(s.Rotation) == 0 || len(s.Rotation) > 64 {
		return nil, spoilt("no usable rotation value", nil)
	}
	return &s, nil
}

// save replaces the state at once or not at all, and returns after it is on the
// disk: an attestation id that is forgotten makes this host look like a clone.
func (f *folder) save(s *State) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	if err := writeDurably(f.path, stateFile, append(text, '\n'), 0o600); err != nil {
		return &Fault{Kind: FaultState, What: "write the state", Why: err.Error(), Fix: "make room, and see that this user may write " + f.path, err: err}
	}
	return nil
}

// writeDurably writes dir/name through a temporary file, rename and two fsyncs.
func writeDurably(dir, name string, content []byte, mode fs.FileMode) error {
	temporary, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // fails once renamed
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Chmod(mode), temporary.Sync(), temporary.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
