package swtpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// Boot extends the PCRs as the firmware that wrote the log would have, into the
// banks that the log has. It does not reset them first.
func (t *TPM) Boot(ctx context.Context, extends []build.Extend) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.boot(ctx, extends)
}

func (t *TPM) boot(ctx context.Context, extends []build.Extend) error {
	c, err := t.open(ctx)
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	defer c.Close()
	for i, e := range extends {
		cmd := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(e.PCR), Auth: tpm2.PasswordAuth(nil)},
			Digests:   tpm2.TPMLDigestValues{Digests: digestsOf(e)},
		}
		if _, err := cmd.Execute(c); err != nil {
			return fmt.Errorf("boot: extend %d into PCR %d: %w", i, e.PCR, err)
		}
	}
	return nil
}

// digestsOf are the banks of an extend: SHA-1 and SHA-256 where it names none, and
// SHA-384 where it has a digest of it.
func digestsOf(e build.Extend) []tpm2.TPMTHA {
	all := map[eventlog.Bank]tpm2.TPMTHA{
		eventlog.SHA1:   {HashAlg: tpm2.TPMAlgSHA1, Digest: e.SHA1[:]},
		eventlog.SHA256: {HashAlg: tpm2.TPMAlgSHA256, Digest: e.SHA256[:]},
		eventlog.SHA384: {HashAlg: tpm2.TPMAlgSHA384, Digest: e.SHA384[:]},
	}
	banks := e.Banks
	if banks == nil {
		banks = []eventlog.Bank{eventlog.SHA1, eventlog.SHA256}
		if e.SHA384 != [48]byte{} {
			banks = append(banks, eventlog.SHA384)
		}
	}
	out := make([]tpm2.TPMTHA, 0, len(banks))
	for _, b := range banks {
		out = append(out, all[b])
	}
	return out
}

// Startup is how a machine's firmware starts its TPM, before it measures.
type Startup struct {
	// Locality is that of TPM2_Startup, 0 or 3: PCR 0 begins with it.
	Locality byte
	// HCRTM is what a hardware core root of trust measures before TPM2_Startup, nil
	// for none. PCR 0 then begins as at locality 4, extended with its hash.
	HCRTM []byte
}

// RebootAs is Reboot with a start of the TPM as some machines do it.
func (t *TPM) RebootAs(ctx context.Context, s Startup, extends []build.Extend) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.shutdown(ctx); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	if err := t.command(ctx, cmdInit, binary.BigEndian.AppendUint32(nil, initDeleteVolatile)); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	if err := t.startAs(ctx, s); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	return t.boot(ctx, extends)
}

func (t *TPM) startAs(ctx context.Context, s Startup) error {
	if s.HCRTM != nil {
		data := binary.BigEndian.AppendUint32(nil, uint32(len(s.HCRTM)))
		for _, step := range [...]struct {
			code    uint32
			payload []byte
		}{{cmdHashStart, nil}, {cmdHashData, append(data, s.HCRTM...)}, {cmdHashEnd, nil}} {
			if err := t.command(ctx, step.code, step.payload); err != nil {
				return fmt.Errorf("H-CRTM: %w", err)
			}
		}
	}
	if err := t.command(ctx, cmdSetLocality, []byte{s.Locality}); err != nil {
		return fmt.Errorf("locality %d: %w", s.Locality, err)
	}
	err := t.startup(ctx)
	return errors.Join(err, t.command(ctx, cmdSetLocality, []byte{0}))
}

// Reset is a restart of the machine before anything is measured: TPM2_Shutdown,
// power cycle, TPM2_Startup(CLEAR). PCRs are at their reset values afterwards and
// resetCount is one higher.
func (t *TPM) Reset(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reset(ctx)
}

func (t *TPM) reset(ctx context.Context) error {
	if err := t.shutdown(ctx); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	if err := t.cycle(ctx); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	return nil
}

// Reboot is Reset followed by Boot, with nothing in between.
func (t *TPM) Reboot(ctx context.Context, extends []build.Extend) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.reset(ctx); err != nil {
		return err
	}
	return t.boot(ctx, extends)
}

// CutPower is a restart without TPM2_Shutdown: the TPM counts it and reports
// safe = no until its clock is certain again.
func (t *TPM) CutPower(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.cycle(ctx); err != nil {
		return fmt.Errorf("cut power: %w", err)
	}
	return nil
}

// cycle takes the power away and gives it back.
func (t *TPM) cycle(ctx context.Context) error {
	if err := t.command(ctx, cmdInit, binary.BigEndian.AppendUint32(nil, initDeleteVolatile)); err != nil {
		return err
	}
	return t.startup(ctx)
}

// startup sends TPM2_Startup(CLEAR).
func (t *TPM) startup(ctx context.Context) error {
	c, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = tpm2.Startup{StartupType: tpm2.TPMSUClear}.Execute(c)
	if errors.Is(err, tpm2.TPMRCInitialize) { // was started already
		return nil
	}
	return err
}

// shutdown sends TPM2_Shutdown(CLEAR): without it the next start counts as a
// power cut.
func (t *TPM) shutdown(ctx context.Context) error {
	c, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = retried(ctx, func() (*tpm2.ShutdownResponse, error) {
		return tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(c)
	})
	return err
}
