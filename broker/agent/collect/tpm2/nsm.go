package tpm2collect

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// The vendor command of Amazon's NitroTPM: it takes a request out of an NV index
// and puts the answer into it. Tag, handles and sessions are as in NitroTPM-Tools
// of AWS; it has no parameters.
const (
	nsmCommand  = 0x20000001 // TPM2_CC_VENDOR: AWS_NSM_REQUEST
	nsmIndices  = 0x01800000 // the owner's range (Registry of Reserved TPM 2.0 Handles, 2.2.2)
	nsmTries    = 16         // indices that others may have taken
	nsmSize     = 8 << 10    // a document has about 5 KiB; NitroTPM-Tools takes as much
	tagSessions = 0x8002     // TPM_ST_SESSIONS
	passwordPW  = 0x40000009 // TPM_RS_PW
)

// Vendor returns the vendor's name for a TPM (TPM_PT_VENDOR_STRING_1 and 2): up to
// eight characters, "NitroTPM" for Amazon's.
func Vendor(ctx context.Context, device string) (string, error) {
	t, err := openRaw(device)
	if err != nil {
		return "", err
	}
	defer t.link.close()
	var name []byte
	for _, property := range []tpm2.TPMPT{tpm2.TPMPTVendorString1, tpm2.TPMPTVendorString2} {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(property), PropertyCount: 1}.Execute(t.commands(ctx))
		if err != nil {
			return "", explain("ask the TPM for its vendor", err)
		}
		properties, err := rsp.CapabilityData.Data.TPMProperties()
		if err != nil {
			return "", explain("ask the TPM for its vendor", err)
		}
		if len(properties.TPMProperty) > 0 && properties.TPMProperty[0].Property == property {
			name = binary.BigEndian.AppendUint32(name, properties.TPMProperty[0].Value)
		}
	}
	for len(name) > 0 && name[len(name)-1] == 0 {
		name = name[:len(name)-1]
	}
	return string(name), nil
}

// NSM hands a request to the Nitro Security Module behind a NitroTPM and returns
// its answer with the fill behind it, CBOR both. The device has to be the TPM
// itself: a resource manager does not know the command.
func NSM(ctx context.Context, device string, request []byte) ([]byte, error) {
	t, err := openRaw(device)
	if err != nil {
		return nil, err
	}
	defer t.link.close()
	answer, err := t.nsm(ctx, request)
	return answer, explain("ask the Nitro Security Module", err)
}

// openRaw opens the device behind a resource manager, beside whoever uses that.
func openRaw(device string) (*TPM, error) {
	if device == "" || device == DefaultDevice {
		device = "/dev/tpm0"
	}
	l, err := openLink(device)
	if err != nil {
		return nil, err
	}
	return &TPM{link: l}, nil
}

func (t *TPM) nsm(ctx context.Context, request []byte) (answer []byte, err error) {
	var secret [16]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, err
	}
	// Digits: go-tpm 0.9.8 cuts an auth value at its first zero byte.
	buffer := &nsmBuffer{tpm: t, password: hex.AppendEncode(nil, secret[:])}
	if err := buffer.define(ctx); err != nil {
		return nil, err
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		err = errors.Join(err, buffer.undefine(clean))
	}()
	if err := buffer.write(ctx, request); err != nil {
		return nil, err
	}
	if err := buffer.execute(ctx); err != nil {
		return nil, err
	}
	return buffer.read(ctx)
}

// nsmBuffer is an NV index of our own for one request. Its password keeps other
// processes from changing the request; a NitroTPM has no bus on which it could be
// listened to.
type nsmBuffer struct {
	tpm      *TPM
	index    tpm2.TPMHandle
	name     tpm2.TPM2BName
	password []byte
}

func (b *nsmBuffer) auth() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: b.index, Name: b.name, Auth: tpm2.PasswordAuth(b.password)}
}

func (b *nsmBuffer) named() tpm2.NamedHandle { return tpm2.NamedHandle{Handle: b.index, Name: b.name} }

func (b *nsmBuffer) define(ctx context.Context) error {
	for i := range nsmTries {
		b.index = tpm2.TPMHandle(nsmIndices + i)
		_, err := tpm2.NVDefineSpace{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			Auth:       tpm2.TPM2BAuth{Buffer: b.password},
			PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
				NVIndex: b.index, NameAlg: tpm2.TPMAlgSHA256, DataSize: nsmSize,
				Attributes: tpm2.TPMANV{AuthWrite: true, AuthRead: true, NoDA: true},
			}),
		}.Execute(b.tpm.commands(ctx))
		if errors.Is(err, tpm2.TPMRCNVDefined) {
			continue
		}
		if err != nil {
			return err
		}
		pub, err := tpm2.NVReadPublic{NVIndex: b.index}.Execute(b.tpm.commands(ctx))
		if err != nil {
			return errors.Join(err, b.undefine(ctx))
		}
		b.name = pub.NVName
		return nil
	}
	return &Error{What: "ask the Nitro Security Module", Why: "all NV indices that were tried are taken", Fix: "remove what others left from 0x01800000 on with: tpm2_nvundefine"}
}

func (b *nsmBuffer) undefine(ctx context.Context) error {
	_, err := tpm2.NVUndefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    b.named(),
	}.Execute(b.tpm.commands(ctx))
	return err
}

func (b *nsmBuffer) write(ctx context.Context, request []byte) error {
	for at := 0; at < len(request); at += nvChunk {
		_, err := tpm2.NVWrite{
			AuthHandle: b.auth(), NVIndex: b.named(),
			Data:   tpm2.TPM2BMaxNVBuffer{Buffer: request[at:min(at+nvChunk, len(request))]},
			Offset: uint16(at),
		}.Execute(b.tpm.commands(ctx))
		if err != nil {
			return err
		}
		if at == 0 { // the first write sets an attribute, which is part of the name
			pub, err := tpm2.NVReadPublic{NVIndex: b.index}.Execute(b.tpm.commands(ctx))
			if err != nil {
				return err
			}
			b.name = pub.NVName
		}
	}
	return nil
}

// execute sends the vendor's command, which go-tpm does not know.
func (b *nsmBuffer) execute(ctx context.Context) error {
	area := binary.BigEndian.AppendUint32(nil, passwordPW)
	area = append(area, 0, 0, 1) // no nonce; continueSession
	area = binary.BigEndian.AppendUint16(area, uint16(len(b.password)))
	area = append(area, b.password...)

	command := binary.BigEndian.AppendUint16(nil, tagSessions)
	command = binary.BigEndian.AppendUint32(command, uint32(headerSize+4+4+4+len(area)))
	command = binary.BigEndian.AppendUint32(command, nsmCommand)
	command = binary.BigEndian.AppendUint32(command, uint32(b.index)) // who authorises
	command = binary.BigEndian.AppendUint32(command, uint32(b.index)) // what is read and written
	command = binary.BigEndian.AppendUint32(command, uint32(len(area)))
	response, err := b.tpm.commands(ctx).Send(append(command, area...))
	if err != nil {
		return err
	}
	if len(response) < headerSize {
		return fmt.Errorf("tpm response of %d bytes", len(response))
	}
	switch rc := tpm2.TPMRC(binary.BigEndian.Uint32(response[6:10])); rc {
	case tpm2.TPMRCSuccess:
		return nil
	case tpm2.TPMRCCommandCode:
		return &Error{What: "ask the Nitro Security Module", Why: "this TPM does not know the command, so it is no NitroTPM", err: rc}
	default:
		return rc
	}
}

func (b *nsmBuffer) read(ctx context.Context) ([]byte, error) {
	var data []byte
	for len(data) < nsmSize {
		rsp, err := tpm2.NVRead{
			AuthHandle: b.auth(), NVIndex: b.named(),
			Size: uint16(min(nvChunk, nsmSize-len(data))), Offset: uint16(len(data)),
		}.Execute(b.tpm.commands(ctx))
		if err != nil {
			return nil, err
		}
		if len(rsp.Data.Buffer) == 0 {
			return nil, errors.New("the answer ends early")
		}
		data = append(data, rsp.Data.Buffer...)
	}
	return data, nil
}
