package tpm2collect

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

const nvChunk = 512 // bytes in one TPM2_NV_Read or TPM2_NV_Write that every TPM can do

// ReadNV returns the contents of an index, at most limit bytes, nil where it does
// not exist or was never written. Clouds keep in such indices what vouches for
// their TPMs.
func (t *TPM) ReadNV(ctx context.Context, index uint32, limit int) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(); err != nil {
		return nil, err
	}
	data, err := t.readNV(ctx, index, limit)
	return data, explain(fmt.Sprintf("read NV index %#08x", index), err)
}

// WriteNV writes data to an index of that very size and makes it where it does not
// exist, in the owner's range and free to read.
func (t *TPM) WriteNV(ctx context.Context, index uint32, data []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(); err != nil {
		return err
	}
	return explain(fmt.Sprintf("write NV index %#08x", index), t.writeNV(ctx, index, data))
}

func (t *TPM) writeNV(ctx context.Context, index uint32, data []byte) error {
	read := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}
	pub, err := read.Execute(t.commands(ctx))
	if errors.Is(err, tpm2.TPMRCHandle) {
		if err = t.defineNV(ctx, index, len(data)); err == nil {
			pub, err = read.Execute(t.commands(ctx))
		}
	}
	if err != nil {
		return err
	}
	info, err := pub.NVPublic.Contents()
	if err != nil {
		return err
	}
	if int(info.DataSize) != len(data) {
		return fmt.Errorf("the index holds %d bytes, not %d", info.DataSize, len(data))
	}
	auth := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if !info.Attributes.OwnerWrite {
		auth = tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Name: pub.NVName, Auth: tpm2.PasswordAuth(nil)}
	}
	name := pub.NVName
	for at := 0; at < len(data); at += nvChunk {
		_, err := tpm2.NVWrite{
			AuthHandle: auth, NVIndex: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: name},
			Data:   tpm2.TPM2BMaxNVBuffer{Buffer: data[at:min(at+nvChunk, len(data))]},
			Offset: uint16(at),
		}.Execute(t.commands(ctx))
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *TPM) defineNV(ctx context.Context, index uint32, size int) error {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(size),
			Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthWrite: true, AuthRead: true},
		}),
	}.Execute(t.commands(ctx))
	return err
}

// readNV returns the contents of an index, nil where it does not exist or was
// never written.
func (t *TPM) readNV(ctx context.Context, index uint32, limit int) ([]byte, error) {
	pub, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(t.commands(ctx))
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := pub.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	if !info.Attributes.Written {
		return nil, nil
	}
	if int(info.DataSize) > limit {
		return nil, fmt.Errorf("index %#08x holds %d bytes, more than the %d of its kind", index, info.DataSize, limit)
	}
	// The profile lets everybody read the index by its own empty password; some
	// vendors forgot that and leave only the owner's.
	named := tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: pub.NVName}
	auth := tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Name: pub.NVName, Auth: tpm2.PasswordAuth(nil)}
	if !info.Attributes.AuthRead {
		auth = tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	}
	data := make([]byte, 0, info.DataSize)
	for len(data) < int(info.DataSize) {
		rsp, err := tpm2.NVRead{
			AuthHandle: auth, NVIndex: named,
			Size:   uint16(min(nvChunk, int(info.DataSize)-len(data))),
			Offset: uint16(len(data)),
		}.Execute(t.commands(ctx))
		if err != nil {
			return nil, err
		}
		if len(rsp.Data.Buffer) == 0 {
			return nil, fmt.Errorf("index %#08x ends early", index)
		}
		data = append(data, rsp.Data.Buffer...)
	}
	return data, nil
}
