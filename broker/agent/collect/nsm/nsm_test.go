package nsm_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/nsm"
)

// module is a stand-in with a recorded answer.
type module struct {
	asked  []byte
	answer []byte
	err    error
}

func (m *module) Ask(_ context.Context, request []byte) ([]byte, error) {
	m.asked = request
	return m.answer, m.err
}

// answerWith is {"Attestation": {"document": document}} as the module writes it.
func answerWith(document []byte) []byte {
	out := append([]byte{0xa1, 0x6b}, "Attestation"...)
	out = append(append(out, 0xa1, 0x68), "document"...)
	out = append(out, 0x59, byte(len(document)>>8), byte(len(document)))
	return append(out, document...)
}

var bound = collect.Bound{Value: [32]byte{0xab, 0xcd}}

// The request is the bytes that aws-nitro-enclaves-nsm-api makes: a map of one
// variant, whose members stand in the order of the structure.
func TestRequestIsOfTheDocumentedForm(t *testing.T) {
	m := &module{answer: answerWith([]byte("document"))}
	item, err := nsm.Enclave{Module: m}.Collect(t.Context(), bound)
	if err != nil || string(item.Document) != "document" || item.Format != "nitro" {
		t.Fatalf("%q, %v", item.Document, err)
	}
	want := "a1" + "6b" + hex.EncodeToString([]byte("Attestation")) + "a3" +
		"69" + hex.EncodeToString([]byte("user_data")) + "f6" +
		"65" + hex.EncodeToString([]byte("nonce")) + "5820" + hex.EncodeToString(bound.Value[:]) +
		"6a" + hex.EncodeToString([]byte("public_key")) + "f6"
	if got := hex.EncodeToString(m.asked); got != want {
		t.Errorf("request %s\nwant    %s", got, want)
	}
}

func TestAnswersOfTheModule(t *testing.T) {
	for name, c := range map[string]struct {
		answer []byte
		want   string // in the error; "" takes it
	}{
		"document":             {answerWith([]byte("d")), ""},
		"document and fill":    {append(answerWith([]byte("d")), bytes.Repeat([]byte{0xff}, 100)...), ""},
		"error":                {append([]byte{0xa1, 0x65}, "Error\x6fInvalidArgument"...), "InvalidArgument"},
		"other variant":        {append([]byte{0xa1, 0x69}, "GetRandom\xa0"...), "no document"},
		"empty document":       {answerWith(nil), "no document"},
		"large document":       {answerWith(make([]byte, 20<<10)), "20480 bytes"},
		"nothing":              {nil, "known form"},
		"fill alone":           {bytes.Repeat([]byte{0xff}, 100), "known form"},
		"length of 2^40":       {append([]byte{0xa1, 0x6b}, "Attestation\x5b\x00\x00\x01\x00\x00\x00\x00\x00"...), "known form"},
		"deep":                 {bytes.Repeat([]byte{0x81}, 1000), "known form"},
		"document twice":       {append(append([]byte{0xa1, 0x6b}, "Attestation\xa2\x68document\x41a"...), "\x68document\x41b"...), "known form"},
		"document is a number": {append([]byte{0xa1, 0x6b}, "Attestation\xa1\x68document\x01"...), "known form"},
		"tagged":               {append([]byte{0xd8, 0x62}, answerWith([]byte("d"))...), "known form"},
	} {
		item, err := nsm.Enclave{Module: &module{answer: c.answer}}.Collect(t.Context(), bound)
		if c.want == "" {
			if err != nil || string(item.Document) != "d" {
				t.Errorf("%s: %q, %v", name, item.Document, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v", name, item.Document, err)
		}
	}
}

func TestEnclaveIsKnownByItsDevice(t *testing.T) {
	root := t.TempDir()
	c := nsm.Enclave{Module: nsm.Driver{Root: root}, Root: root}
	if f := c.Detect(t.Context()); f.Able {
		t.Errorf("%+v", f)
	}
	if _, err := c.Collect(t.Context(), bound); err == nil {
		t.Error("an item without a device")
	}
	root = enclave(t)
	c = nsm.Enclave{Module: nsm.Driver{Root: root}, Root: root}
	if f := c.Detect(t.Context()); !f.Able || f.Class != "A" {
		t.Errorf("%+v", f)
	}
	// A file answers no ioctl.
	if _, err := c.Collect(t.Context(), bound); err == nil || !strings.Contains(err.Error(), "inappropriate ioctl") {
		t.Errorf("%v", err)
	}
}

// enclave is a root that has the module's device, which is a file here.
func enclave(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, nsm.Device), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestInstanceIsKnownByTheVendorOfItsTPM(t *testing.T) {
	for name, c := range map[string]struct {
		vendor string
		err    error
		able   bool
	}{"NitroTPM": {"NitroTPM", nil, true}, "another": {"SW   TPM", nil, false}, "none": {"", errors.New("gone"), false}} {
		f := nsm.Instance{Vendor: func(context.Context) (string, error) { return c.vendor, c.err }}.Detect(t.Context())
		if f.Able != c.able || f.Format != "nitrotpm" || f.Why == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	item, err := nsm.Instance{Module: &module{answer: answerWith([]byte("d"))}}.Collect(t.Context(), bound)
	if err != nil || string(item.Document) != "d" || item.Format != "nitrotpm" {
		t.Errorf("%+v, %v", item, err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(answerWith([]byte("d")))
	f.Add(append([]byte{0xa1, 0x65}, "Error\x6fInvalidArgument"...))
	f.Fuzz(func(t *testing.T, answer []byte) {
		item, err := nsm.Enclave{Module: &module{answer: answer}}.Collect(t.Context(), bound)
		if err == nil && (len(item.Document) == 0 || len(item.Document) > len(answer)) {
			t.Errorf("a document of %d bytes out of %d", len(item.Document), len(answer))
		}
	})
}
