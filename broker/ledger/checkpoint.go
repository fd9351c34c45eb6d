package ledger

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// maxCheckpoint bounds a signed checkpoint; ours has about 200 bytes, and room
// is left for cosignatures of witnesses.
const maxCheckpoint = 16 << 10

// Checkpoint is a state of the log: C2SP tlog-checkpoint without extension
// lines.
type Checkpoint struct {
	Origin string // "<trust domain>/zonebroker/<log id>"
	Size   int64
	Root   [32]byte
}

// Origin returns the name of a log, which is also the name of its key.
func Origin(trustDomain, logID string) string {
	return trustDomain + "/zonebroker/" + logID
}

func (c Checkpoint) text() string {
	return c.Origin + "\n" + strconv.FormatInt(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// Sign returns the checkpoint as a C2SP signed note. Ed25519 is deterministic:
// replicas that share the key write the same note for the same state.
func (c Checkpoint) Sign(s note.Signer) (string, error) {
	if c.Size < 0 || c.Origin == "" || strings.Contains(c.Origin, "\n") {
		return "", errors.New("checkpoint: no origin or an impossible size")
	}
	raw, err := note.Sign(&note.Note{Text: c.text()}, s)
	if err != nil {
		return "", fmt.Errorf("sign checkpoint: %w", err)
	}
	return string(raw), nil
}

// OpenCheckpoint verifies a signed note and reads the checkpoint in it. The
// caller compares Origin with the log that it means.
func OpenCheckpoint(text string, v NoteVerifier) (Checkpoint, error) {
	if len(text) > maxCheckpoint {
		return Checkpoint{}, fmt.Errorf("checkpoint: more than %d bytes", maxCheckpoint)
	}
	n, err := note.Open([]byte(text), note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("open checkpoint: %w", err)
	}
	return parseCheckpoint(n.Text)
}

func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] == "" {
		return Checkpoint{}, errors.New("checkpoint: not exactly origin, size and root")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, errors.New("checkpoint: size is not a plain decimal")
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != 32 {
		return Checkpoint{}, errors.New("checkpoint: root is not base64 of 32 bytes")
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: [32]byte(root)}
	if c.text() != text {
		return Checkpoint{}, errors.New("checkpoint: not in its canonical form")
	}
	return c, nil
}

// NewLogKey makes the key of a log: the private and the public note key line.
// Name is the log's origin.
func NewLogKey(rand io.Reader, name string) (skey, vkey string, err error) {
	skey, vkey, err = note.GenerateKey(rand, name)
	if err != nil {
		return "", "", fmt.Errorf("log key: %w", err)
	}
	return skey, vkey, nil
}

// ParseLogKey reads a private note key line and derives its verifier.
func ParseLogKey(skey string) (note.Signer, NoteVerifier, error) {
	skey = strings.TrimSpace(skey)
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, nil, errors.New("log key: not a private note key")
	}
	// PRIVATE+KEY+<name>+<hash>+<base64 of algorithm and seed>; NewSigner
	// checked the form. Base64 may itself hold a plus sign.
	parts := strings.SplitN(skey, "+", 5)
	raw, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return nil, nil, errors.New("log key: not an Ed25519 key")
	}
	public, ok := ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return nil, nil, errors.New("log key: not an Ed25519 key")
	}
	vkey, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return nil, nil, fmt.Errorf("log key: %w", err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, nil, fmt.Errorf("log key: %w", err)
	}
	return signer, v, nil
}
