package swtpm

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Endorsement is one of the TPM's two endorsement keys.
type Endorsement struct {
	Name        string // "rsa2048" or "p256"
	NVIndex     uint32 // where the certificate lies (TCG EK Credential Profile, low range)
	SPKI        []byte // SubjectPublicKeyInfo, DER; its SHA-256 is the EK hash
	Certificate []byte // DER; nil if the TPM was made without a CA
}

type endorsementTemplate struct {
	name   string
	index  uint32
	public tpm2.TPMTPublic
	usage  x509.KeyUsage
}

// templates are L-1 and L-2 of the TCG EK Credential Profile 2.x.
var templates = []endorsementTemplate{
	{"rsa2048", 0x01c00002, tpm2.RSAEKTemplate, x509.KeyUsageKeyEncipherment},
	{"p256", 0x01c0000a, tpm2.ECCEKTemplate, x509.KeyUsageKeyAgreement},
}

func (e endorsementTemplate) spkiFile(dir string) string {
	return filepath.Join(dir, "ek-"+e.name+".spki")
}

func (e endorsementTemplate) certificateFile(dir string) string {
	return filepath.Join(dir, "ek-"+e.name+".crt")
}

// Endorsements returns the endorsement keys as they were manufactured, RSA first.
func (t *TPM) Endorsements() ([]Endorsement, error) {
	var out []Endorsement
	for _, tmpl := range templates {
		spki, err := os.ReadFile(tmpl.spkiFile(t.cfg.Dir))
		if err != nil {
			return nil, err
		}
		cert, err := os.ReadFile(tmpl.certificateFile(t.cfg.Dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		out = append(out, Endorsement{Name: tmpl.name, NVIndex: tmpl.index, SPKI: spki, Certificate: cert})
	}
	return out, nil
}

// manufactured reports whether manufacture came to its end once: the last file
// that it writes is there.
func (t *TPM) manufactured() bool {
	_, err := os.Stat(templates[len(templates)-1].spkiFile(t.cfg.Dir))
	return err == nil
}

// manufacture does what a factory does, and can be done again after a kill.
func (t *TPM) manufacture(ctx context.Context) error {
	if err := t.endorse(ctx); err != nil {
		return fmt.Errorf("manufacture: %w", err)
	}
	// The banks change with the next power cycle, which also drops every object.
	return t.reset(ctx)
}

func (t *TPM) endorse(ctx context.Context) error {
	c, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := allocateBanks(c); err != nil {
		return err
	}
	for _, tmpl := range templates {
		if err := t.endorseOne(c, tmpl); err != nil {
			return fmt.Errorf("endorsement key %s: %w", tmpl.name, err)
		}
	}
	return nil
}

func (t *TPM) endorseOne(c transport.TPM, tmpl endorsementTemplate) error {
	ek, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(tmpl.public),
	}.Execute(c)
	if err != nil {
		return err
	}
	// Transient objects outlive the connection, and there is room for three.
	defer tpm2.FlushContext{FlushHandle: ek.ObjectHandle}.Execute(c)
	public, err := ek.OutPublic.Contents()
	if err != nil {
		return err
	}
	key, err := tpm2.Pub(*public)
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return err
	}
	if t.cfg.CA != nil {
		cert, err := t.cfg.CA.issue(key, tmpl.usage)
		if err != nil {
			return err
		}
		if err := writeNV(c, tmpl.index, cert); err != nil {
			return err
		}
		if err := os.WriteFile(tmpl.certificateFile(t.cfg.Dir), cert, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(tmpl.spkiFile(t.cfg.Dir), spki, 0o600)
}

var platform = tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}

// writeNV stores a certificate as factories do: written by the platform, read by
// everyone, out of the owner's reach.
func writeNV(c transport.TPM, index uint32, data []byte) error {
	public := tpm2.TPMSNVPublic{
		NVIndex: tpm2.TPMHandle(index),
		NameAlg: tpm2.TPMAlgSHA256,
		Attributes: tpm2.TPMANV{
			PPWrite: true, WriteDefine: true, PPRead: true, OwnerRead: true, AuthRead: true,
			NoDA: true, PlatformCreate: true,
		},
		DataSize: uint16(len(data)),
	}
	define := tpm2.NVDefineSpace{AuthHandle: platform, PublicInfo: tpm2.New2B(public)}
	_, err := define.Execute(c)
	if errors.Is(err, tpm2.TPMRCNVDefined) { // left by a manufacture that was cut short
		if err := undefineNV(c, index); err != nil {
			return err
		}
		_, err = define.Execute(c)
	}
	if err != nil {
		return err
	}
	name, err := nvName(c, index)
	if err != nil {
		return err
	}
	const chunk = 512 // every TPM takes that much at once
	for at := 0; at < len(data); at += chunk {
		_, err := tpm2.NVWrite{
			AuthHandle: platform,
			NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: name},
			Data:       tpm2.TPM2BMaxNVBuffer{Buffer: data[at:min(at+chunk, len(data))]},
			Offset:     uint16(at),
		}.Execute(c)
		if err != nil {
			return err
		}
		// The first write changes the attributes, and with them the name.
		if name, err = nvName(c, index); err != nil {
			return err
		}
	}
	return nil
}

func undefineNV(c transport.TPM, index uint32) error {
	name, err := nvName(c, index)
	if err != nil {
		return err
	}
	_, err = tpm2.NVUndefineSpace{AuthHandle: platform, NVIndex: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: name}}.Execute(c)
	return err
}

func nvName(c transport.TPM, index uint32) (tpm2.TPM2BName, error) {
	r, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(c)
	if err != nil {
		return tpm2.TPM2BName{}, err
	}
	return r.NVName, nil
}

// allocateBanks leaves SHA-1 and SHA-256 active from the next start on. A bank
// that the firmware does not extend is a bank that anyone can extend to any
// value. go-tpm has no TPM2_PCR_Allocate (Part 3, 22.5).
func allocateBanks(c transport.TPM) error {
	all, none := []byte{0xff, 0xff, 0xff}, []byte{0, 0, 0}
	be := binary.BigEndian
	body := be.AppendUint32(nil, uint32(tpm2.TPMRHPlatform))
	body = be.AppendUint32(body, 9) // size of the password authorisation with an empty password
	body = be.AppendUint32(body, uint32(tpm2.TPMRSPW))
	body = append(body, 0, 0, 0, 0, 0)
	body = be.AppendUint32(body, 4)
	for _, bank := range []struct {
		alg  tpm2.TPMAlgID
		mask []byte
	}{{tpm2.TPMAlgSHA1, all}, {tpm2.TPMAlgSHA256, all}, {tpm2.TPMAlgSHA384, none}, {tpm2.TPMAlgSHA512, none}} {
		body = be.AppendUint16(body, uint16(bank.alg))
		body = append(append(body, 3), bank.mask...)
	}
	cmd := be.AppendUint16(nil, uint16(tpm2.TPMSTSessions))
	cmd = be.AppendUint32(cmd, uint32(10+len(body)))
	cmd = be.AppendUint32(cmd, uint32(tpm2.TPMCCPCRAllocate))
	answer, err := c.Send(append(cmd, body...))
	if err != nil {
		return err
	}
	if rc := be.Uint32(answer[6:]); rc != 0 {
		return fmt.Errorf("TPM2_PCR_Allocate: 0x%x", rc)
	}
	const parameters = 14 // header and parameterSize, then allocationSuccess
	if len(answer) <= parameters || answer[parameters] != 1 {
		return errors.New("TPM2_PCR_Allocate: the TPM refuses banks SHA-1 and SHA-256")
	}
	return nil
}
