package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect/roster"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// session is what stays open between attestations: the locked folder, the TPM
// with its loaded keys or those of the folder, the connection. One goroutine uses
// it.
type session struct {
	cfg    Config
	folder *folder
	state  *State
	roster *roster.Roster
	format string           // what names the node; "" until it is chosen
	tpm    *tpm2collect.TPM // nil while closed, and where no TPM quotes
	key    signingKey       // of the SVID; nil while closed
	ak     tpm2collect.AK   // its name is that of the agent key where no TPM quotes
	akSPKI []byte           // nil where no TPM quotes
	agent  *softKey         // nil where a TPM quotes
	broker *client.Client   // nil before the first connection
	// unsaved: the last denial is in state, but not on the disk.
	unsaved bool

	// Handshakes run in goroutines of the transport, which may outlive the
	// request that started them.
	present atomic.Pointer[tls.Certificate] // shown in the next handshake; nil goes without
	shown   atomic.Pointer[tls.Certificate] // shown in the last one
}

// newSession locks the folder and reads the state. What it refuses does not
// mend itself: a configuration, or a folder, that somebody has to change.
func newSession(cfg Config) (*session, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	if cfg.EventLog == "" {
		cfg.EventLog = tpm2collect.DefaultEventLog
	}
	if cfg.IMALog == "" {
		cfg.IMALog = tpm2collect.DefaultIMALog
	}
	if cfg.UserspaceLog == "" && !strings.HasPrefix(cfg.Device, "swtpm:") {
		cfg.UserspaceLog = tpm2collect.DefaultUserspaceLog
	}
	folder, err := openFolder(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	s := &session{cfg: cfg, folder: folder}
	if s.state, err = folder.load(); err == nil {
		err = s.newRoster()
	}
	if err == nil {
		err = s.connect()
	}
	if err != nil {
		return nil, errors.Join(err, folder.close())
	}
	return s, nil
}

func (s *session) close() error {
	s.broker.Close()
	return errors.Join(s.closeTPM(), s.folder.close())
}

func (s *session) closeTPM() error {
	if s.tpm == nil {
		return nil
	}
	err := s.tpm.Close()
	s.tpm, s.key, s.akSPKI = nil, nil, nil
	return err
}

// attest proves the state of this host. After a fault of the TPM it closes it,
// so that the next attestation opens it anew: its process or its driver may have
// been started again.
func (s *session) attest(ctx context.Context, waits int) (Result, error) {
	if err := s.open(ctx); err != nil {
		return Result{}, err
	}
	s.refreshConnection()
	r := &run{session: s, waits: waits, began: s.cfg.Now(), enrol: !s.state.Enrolled || !bytes.Equal(s.state.AKName, s.ak.Name)}
	trusted := s.state.Bundle
	result, err := r.attest(ctx)
	if err == nil && !bytes.Equal(trusted, s.state.Bundle) {
		// The next handshake has to know the new bundle.
		return result, s.connect()
	}
	if fault, ok := errors.AsType[*Fault](err); ok && fault.Kind == FaultTPM {
		// What was loaded is lost with the connection; the fault says what is wrong.
		_ = s.closeTPM()
	}
	return result, err
}

// deny remembers on the disk that the broker refused this host with code. A disk
// that does not take it makes no answer wrong; it is told, and tried again by
// saveDenial.
func (s *session) deny(code reason.Code) {
	if s.state.Denied == string(code) {
		return
	}
	s.state.Denied, s.unsaved = string(code), true
	if err := s.saveDenial(); err != nil {
		s.cfg.Progress(err.Error())
	}
}

// saveDenial writes a denial that is not on the disk yet: until it is, a restart
// would bring back what was withdrawn.
func (s *session) saveDenial() error {
	if !s.unsaved {
		return nil
	}
	err := s.folder.save(s.state)
	s.unsaved = err != nil
	return err
}

// open chooses what names the node, where nothing did yet, and makes the keys.
func (s *session) open(ctx context.Context) error {
	if s.key != nil {
		return nil
	}
	if err := s.chooseFormat(ctx); err != nil {
		return err
	}
	if quotes(s.format) {
		return s.openTPM(ctx)
	}
	agent, err := s.folder.key(agentKeyFile)
	if err != nil {
		return err
	}
	key, err := s.folder.key(svidKeyFile)
	if err != nil {
		return err
	}
	s.agent, s.key, s.ak = agent, key, tpm2collect.AK{Name: verifier.AgentKeyName(agent.SPKI())}
	return nil
}

// openTPM opens the TPM and makes the AK and the SVID key. The kinds of keys
// are on the disk before they are used, so that the next run makes the same.
func (s *session) openTPM(ctx context.Context) error {
	if err := s.chooseKeys(); err != nil {
		return err
	}
	s.cfg.Progress("making the keys in the TPM")
	tpm, err := tpm2collect.Open(ctx, tpm2collect.Config{Device: s.cfg.Device, AK: s.akKind(), EK: s.state.EK, Rotation: s.state.Rotation})
	if err != nil {
		return tpmFault("open the TPM", err)
	}
	ak, err := tpm.AK(ctx)
	var (
		key  *tpm2collect.SVIDKey
		spki []byte
	)
	if err == nil {
		spki, err = ak.SPKI()
	}
	if err == nil {
		key, err = tpm.SVIDKey(ctx)
	}
	if err != nil {
		_ = tpm.Close() // the fault before it says what is wrong
		return tpmFault("make the keys", err)
	}
	s.tpm, s.ak, s.akSPKI, s.key = tpm, ak, spki, key
	return nil
}

func (s *session) chooseKeys() error {
	kept := *s.state
	if s.cfg.AK != "" {
		s.state.AK = s.cfg.AK
	}
	if s.state.AK == "" {
		s.state.AK = tpm2collect.P256
	}
	if s.cfg.EK != "" && s.cfg.EK != tpm2collect.Auto {
		s.state.EK = s.cfg.EK
	}
	if s.state.AK == kept.AK && s.state.EK == kept.EK {
		return nil
	}
	return s.folder.save(s.state)
}

// connect makes the client. The last bundle is trusted beside the anchor.
func (s *session) connect() error {
	td := s.state.TrustDomain
	if td == "" {
		td = s.cfg.TrustDomain
	} else if want := s.cfg.TrustDomain; want != "" && want != td {
		return stateFault("the state is of trust domain "+td+", not of "+want, "give the other trust domain a state of its own with --state DIR", nil)
	}
	broker, err := client.New(client.Config{
		Server: s.cfg.Server, Trust: s.trust(), TrustDomain: td, UserAgent: s.cfg.UserAgent, Now: s.cfg.Now,
		ClientCertificate: func() (*tls.Certificate, error) {
			c := s.present.Load()
			s.shown.Store(c)
			return c, nil
		},
	})
	if err != nil {
		return err
	}
	if s.broker != nil {
		s.broker.Close()
	}
	s.broker = broker
	return nil
}

func (s *session) trust() client.Trust {
	trust := s.cfg.Trust
	if len(s.state.Bundle) > 0 && !trust.Empty() {
		if last, err := client.Bundle(s.state.Bundle); err == nil {
			trust = trust.And(last)
		}
	}
	return trust
}

// connectionLeft is how long the SVID of the kept connection has to be valid for another
// attestation over it.
const connectionLeft = 2 * time.Minute

// refreshConnection shows the SVID of the last answer from now on. A connection
// that was made with one that is about to end, or without any, is left: the
// broker looks at the end of its client's certificate at each request.
func (s *session) refreshConnection() {
	certificate := s.clientCertificate()
	s.present.Store(certificate)
	shown := s.shown.Load()
	without := shown == nil && certificate != nil
	// Also where there is no newer one: the AK is enough, an SVID that ended is not.
	if without || shown != nil && shown.Leaf.NotAfter.Before(s.cfg.Now().Add(connectionLeft)) {
		s.broker.Close()
	}
}

func (s *session) fastLane() bool { return s.present.Load() != nil }

// clientCertificate is the SVID of the last answer, if it is still valid and
// its key is the one that this host has now.
func (s *session) clientCertificate() *tls.Certificate {
	if len(s.state.Chain) == 0 || s.key == nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(s.state.Chain[0])
	now := s.cfg.Now()
	if err != nil || now.Before(leaf.NotBefore) || !now.Before(leaf.NotAfter) || !bytes.Equal(leaf.RawSubjectPublicKeyInfo, s.key.SPKI()) {
		return nil
	}
	c := &tls.Certificate{PrivateKey: s.key, Leaf: leaf}
	for _, der := range s.state.Chain {
		c.Certificate = append(c.Certificate, der)
	}
	return c
}
