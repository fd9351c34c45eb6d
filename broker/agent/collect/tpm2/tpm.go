package tpm2collect

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// DefaultDevice is the kernel's TPM behind its resource manager.
const DefaultDevice = "/dev/tpmrm0"

// cleanupTime bounds the flushing after an operation was given up on.
const cleanupTime = 5 * time.Second

// Config says which TPM and which keys.
type Config struct {
	// Device is "/dev/tpmrm0" (the default) or "swtpm:/path/of/socket". Trusted:
	// whoever chooses it chooses the host's identity.
	Device string
	// AK is the kind of attestation key: P256 (the default) or RSA, which are made
	// here, GCE or AzureHCL.
	AK Kind
	// EK is the endorsement key: Auto (the default) takes the one that the TPM
	// has a certificate for, and RSA where there is none.
	EK Kind
	// Rotation makes the SVID key and its auth value: another value, another key.
	// At most 64 bytes. Secret: who knows it and may open the TPM can use the key.
	Rotation []byte
}

// TPM is an open TPM. Its methods may be called from several goroutines.
type TPM struct {
	cfg Config

	mu     sync.Mutex // guards everything below and the order of commands
	link   link
	ek     *EK
	ak     *object
	svid   *object
	closed bool
}

// object is a loaded key.
type object struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public []byte // TPMT_PUBLIC

	password   []byte // nil: the empty one
	persistent bool   // it stays in the TPM
}

// auth authorises the use of o. A password that is not empty is proved in a
// session of its own and never sent.
func (o *object) auth() tpm2.AuthHandle {
	session := tpm2.PasswordAuth(nil)
	if o.password != nil {
		session = tpm2.HMAC(tpm2.TPMAlgSHA256, sessionNonce, tpm2.Auth(o.password))
	}
	return tpm2.AuthHandle{Handle: o.handle, Name: o.name, Auth: session}
}

// Open opens the TPM of cfg. On a socket, which has no resource manager, it
// flushes every transient key and session that it finds: software TPMs keep
// them over reconnects, and the fourth key no longer fits.
func Open(ctx context.Context, cfg Config) (*TPM, error) {
	if cfg.Device == "" {
		cfg.Device = DefaultDevice
	}
	if cfg.AK == "" {
		cfg.AK = P256
	}
	switch cfg.AK {
	case P256, RSA, GCE, AzureHCL:
	default:
		return nil, &Error{What: "choose the attestation key", Why: "there is no kind " + string(cfg.AK), Fix: "say --ak p256 or --ak rsa"}
	}
	if cfg.EK == "" {
		cfg.EK = Auto
	}
	if _, ok := ekTemplates[cfg.EK]; !ok && cfg.EK != Auto {
		return nil, &Error{What: "choose the endorsement key", Why: "there is no kind " + string(cfg.EK), Fix: "say --ek auto, --ek rsa or --ek p256"}
	}
	if len(cfg.Rotation) > 64 {
		return nil, fmt.Errorf("rotation value of %d bytes, at most 64", len(cfg.Rotation))
	}
	link, err := openLink(cfg.Device)
	if err != nil {
		return nil, err
	}
	t := &TPM{cfg: cfg, link: link}
	if !link.managed() {
		if err := t.flushAll(ctx); err != nil {
			return nil, errors.Join(explain("flush what is left in "+cfg.Device, err), link.close())
		}
	}
	return t, nil
}

// Close flushes the keys that were loaded and closes the device. The keys
// themselves are not lost: they are made again from the TPM's seeds.
func (t *TPM) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
	defer cancel()
	err := errors.Join(t.flush(ctx, t.svid), t.flush(ctx, t.ak))
	t.svid, t.ak = nil, nil
	return errors.Join(explain("flush keys", err), t.link.close())
}

// Shutdown tells a software TPM to save its state in order, as an operating
// system does before power goes (TPM2_Shutdown CLEAR); without it the next start
// counts as a power loss. It refuses a kernel device, whose driver does this.
// The TPM answers nothing but TPM2_Startup afterwards.
func (t *TPM) Shutdown(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.link.managed() {
		return errors.New("shut down the TPM: the kernel does that for " + t.cfg.Device)
	}
	_, err := tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(t.commands(ctx))
	return explain("shut down the TPM", err)
}

func (t *TPM) commands(ctx context.Context) caller { return caller{ctx: ctx, link: t.link} }

// usable is the first line of every operation.
func (t *TPM) usable() error {
	if t.closed {
		return errors.New("the TPM is closed")
	}
	return nil
}

// create makes a primary key with the empty password.
func (t *TPM) create(ctx context.Context, hierarchy tpm2.TPMHandle, public tpm2.TPMTPublic) (*object, error) {
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(public),
	}.Execute(t.commands(ctx))
	if err != nil {
		return nil, err
	}
	return &object{handle: rsp.ObjectHandle, name: rsp.Name, public: rsp.OutPublic.Bytes()}, nil
}

// flush unloads o, also where the operation that loaded it was given up on.
func (t *TPM) flush(ctx context.Context, o *object) error {
	if o == nil || o.persistent {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	_, err := tpm2.FlushContext{FlushHandle: o.handle}.Execute(t.commands(ctx))
	return err
}

// First handles of what is flushed: part 2, 7.4. Asking for loaded sessions
// returns handles of their own type, HMAC or policy.
var flushable = []uint32{
	0x80000000, // transient objects
	0x02000000, // loaded sessions
	0x03000000, // saved sessions
}

func (t *TPM) flushAll(ctx context.Context) error {
	for _, first := range flushable {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 64}.Execute(t.commands(ctx))
		if err != nil {
			return err
		}
		handles, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			return err
		}
		for _, h := range handles.Handle {
			if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(t.commands(ctx)); err != nil && !errors.Is(err, tpm2.TPMRCHandle) {
				return err
			}
		}
	}
	return nil
}
