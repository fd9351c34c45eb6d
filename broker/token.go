package broker

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// A challenge lives inside its token and nowhere else: any replica that has the
// cluster key opens any token, and no row is written for somebody who never
// comes back. What makes it single-use is the node's version inside it.

const (
	tokenTTL      = 60 * time.Second  // wire.md, "Numbers"
	tokenTTLEnrol = 120 * time.Second // a TPM takes its time to make keys
	tokenEpoch    = time.Hour         // sealing keys change hourly; two are accepted
	tokenVersion  = 1
	tokenRandom   = 32
	tokenLabel    = "zonebroker-challenge-v1"
)

// challenge is what a token seals. It never leaves the broker in clear.
type challenge struct {
	Purpose   string         `json:"p"`
	Format    string         `json:"f"`
	Nonce     []byte         `json:"n"`
	Node      ledger.NodeID  `json:"i"`
	Version   int64          `json:"v"` // of the node when the challenge was made; 0 for a new node
	AKName    []byte         `json:"a"`
	Select    string         `json:"s"`
	IssuedAt  int64          `json:"t"` // Unix ms
	ExpiresAt int64          `json:"e"` // Unix ms
	Enrol     *enrolmentSeal `json:"m,omitempty"`
}

// enrolmentSeal fixes the machine that a credential was made for, and what
// admitted it.
type enrolmentSeal struct {
	RootHash  []byte    `json:"r"`
	Material  []byte    `json:"m"` // hash over EK public, certificate and chain
	Admitted  string    `json:"k"` // an Admit constant
	Admission uuid.UUID `json:"a"`
	JoinToken uuid.UUID `json:"j"`
	Machine   string    `json:"l"`
	Groups    []string  `json:"g"`
	Document  bool      `json:"d,omitempty"` // no EK names the node: what admits it is known once its documents are
}

func (c *challenge) issued() time.Time { return time.UnixMilli(c.IssuedAt) }

// fresh reports whether the challenge may still be redeemed: at exactly its
// expiry it is expired.
func (c *challenge) fresh(now time.Time) bool { return now.UnixMilli() < c.ExpiresAt }

// sealer seals challenges under keys derived from the cluster key.
type sealer struct {
	cluster [32]byte
	rand    io.Reader

	once   sync.Once
	secret []byte // by once: the cluster key as HKDF extracts it
	err    error  // by once
}

// aead derives the key of one token. 32 random bytes a token make the key
// unique, so the GCM nonce may be zero and no count of uses has to be kept.
func (s *sealer) aead(epoch uint32, random []byte) (cipher.AEAD, error) {
	s.once.Do(func() { s.secret, s.err = hkdf.Extract(sha256.New, s.cluster[:], nil) })
	if s.err != nil {
		return nil, s.err
	}
	info := binary.BigEndian.AppendUint32([]byte(tokenLabel), epoch)
	key, err := hkdf.Expand(sha256.New, s.secret, string(append(info, random...)), 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func epochOf(t time.Time) uint32 { return uint32(t.Unix() / int64(tokenEpoch/time.Second)) }

// seal returns the token: version ‖ epoch (4, big-endian) ‖ random ‖ sealed JSON,
// in unpadded base64url. Version and epoch are authenticated by the derivation.
func (s *sealer) seal(c *challenge) (string, error) {
	plain, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("seal challenge: %w", err)
	}
	head := make([]byte, 1+4+tokenRandom)
	head[0] = tokenVersion
	epoch := epochOf(c.issued())
	binary.BigEndian.PutUint32(head[1:], epoch)
	if _, err := io.ReadFull(s.rand, head[5:]); err != nil {
		return "", fmt.Errorf("seal challenge: %w", err)
	}
	box, err := s.aead(epoch, head[5:])
	if err != nil {
		return "", fmt.Errorf("seal challenge: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(box.Seal(head, make([]byte, box.NonceSize()), plain, head)), nil
}

// open returns the challenge of a token, reason.ChallengeInvalid for one that
// this cluster did not seal in this or the last epoch, and
// reason.ChallengeExpired for one that is too old.
func (s *sealer) open(token string, now time.Time) (*challenge, error) {
	invalid := reason.New(reason.ChallengeInvalid, "the token does not open; ask for a new challenge")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < 1+4+tokenRandom || raw[0] != tokenVersion {
		return nil, invalid
	}
	head := raw[:1+4+tokenRandom]
	epoch, current := binary.BigEndian.Uint32(head[1:]), epochOf(now)
	// One epoch ahead as well: replicas' clocks differ by up to two seconds.
	if epoch+1 < current || epoch > current+1 {
		return nil, invalid
	}
	box, err := s.aead(epoch, head[5:])
	if err != nil {
		return nil, reason.Wrap(reason.Internal, "", err)
	}
	plain, err := box.Open(nil, make([]byte, box.NonceSize()), raw[len(head):], head)
	if err != nil {
		return nil, invalid
	}
	var c challenge
	if err := json.Unmarshal(plain, &c); err != nil {
		return nil, reason.Wrap(reason.Internal, "", err)
	}
	if !c.fresh(now) {
		return nil, reason.New(reason.ChallengeExpired, "the token is past its expiry; ask for a new challenge")
	}
	return &c, nil
}
