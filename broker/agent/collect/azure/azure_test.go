package azure_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/azure"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadata"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadatatest"
	"github.com/zonebroker/zonebroker/verifier/document"
)

const (
	attested = "/metadata/attested/document"
	token    = "/metadata/identity/oauth2/token"
	thim     = "/metadata/THIM/amd/certification"
	tdquote  = "/acc/tdquote"
)

var bound = collect.Bound{Value: [32]byte{1, 2, 3}}

func service(t *testing.T, answers map[string]metadatatest.Answer) *metadata.Service {
	t.Helper()
	s, err := metadata.New(metadata.Config{URL: metadatatest.Azure(t, answers).URL})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAttestedDocumentIsForTheChallenge(t *testing.T) {
	c := azure.IMDS{Metadata: service(t, map[string]metadatatest.Answer{
		attested: func(r *http.Request) string { return `{"nonce":"` + r.URL.Query().Get("nonce") + `"}` },
	})}
	if f := c.Detect(t.Context()); !f.Able || f.Class != "B" {
		t.Fatalf("%+v", f)
	}
	nonce := document.Base62(bound.Value)
	item, err := c.Collect(t.Context(), bound)
	if err != nil || string(item.Document) != `{"nonce":"`+nonce+`"}` || len(nonce) > 32 {
		t.Errorf("%q, %v", item.Document, err)
	}
}

func TestTokenOfTheManagedIdentity(t *testing.T) {
	answers := map[string]metadatatest.Answer{
		token: func(r *http.Request) string {
			return `{"access_token":"h.` + r.URL.Query().Get("resource") + `.s","expires_in":"86399","token_type":"Bearer"}`
		},
	}
	for resource, want := range map[string]string{"": "api://zonebroker", "api://other": "api://other"} {
		item, err := azure.MSI{Metadata: service(t, answers), Resource: resource}.Collect(t.Context(), bound)
		if err != nil || string(item.Document) != "h."+want+".s" {
			t.Errorf("%q, %v", item.Document, err)
		}
	}
	for name, text := range map[string]string{"no token": `{}`, "no json": `<html>`, "long": `{"access_token":"` + strings.Repeat("x", 20<<10) + `"}`} {
		item, err := azure.MSI{Metadata: service(t, map[string]metadatatest.Answer{token: metadatatest.Text(text)})}.Collect(t.Context(), bound)
		if err == nil {
			t.Errorf("%s: %d bytes", name, len(item.Document))
		}
	}
}

// paravisor is a virtual TPM whose report holds the user data that was written
// last, as Azure's does.
type paravisor struct {
	kind uint32
	user []byte
}

func (p *paravisor) ReadNV(_ context.Context, index uint32, _ int) ([]byte, error) {
	if index != 0x01400001 || p.kind == 0 {
		return nil, nil
	}
	report := make([]byte, 2600)
	copy(report, "HCLA")
	copy(report[32:], bytes.Repeat([]byte{0xaa}, 1024))
	binary.LittleEndian.PutUint32(report[32+1184+8:], p.kind)
	copy(report[1300:], p.user)
	return report, nil
}

func (p *paravisor) WriteNV(_ context.Context, index uint32, data []byte) error {
	if index == 0x01400002 {
		p.user = bytes.Clone(data)
	}
	return nil
}

func TestConfidentialVMOfSNP(t *testing.T) {
	der := []byte{0x30, 0x03, 0x02, 0x01, 0x05}
	text, _ := json.Marshal(map[string]string{
		"vcekCert": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), "tcbm": "DB16000000000004", "certificateChain": "",
	})
	c := azure.CVM{TPM: &paravisor{kind: 2}, Metadata: service(t, map[string]metadatatest.Answer{thim: metadatatest.Text(string(text))})}
	if f := c.Detect(t.Context()); !f.Able || f.Class != "A" {
		t.Fatalf("%+v", f)
	}
	item, err := c.Collect(t.Context(), bound)
	if err != nil {
		t.Fatal(err)
	}
	user := document.ReportData(bound.Value, nil)
	if !bytes.Contains(item.Document, user[:]) || !bytes.Equal(item.Parts["vcek"], der) || len(item.Parts) != 1 {
		t.Errorf("report %x, parts %x", item.Document[1300:1364], item.Parts)
	}
}

func TestConfidentialVMOfTDX(t *testing.T) {
	var asked []byte
	c := azure.CVM{TPM: &paravisor{kind: 4}, Metadata: service(t, map[string]metadatatest.Answer{
		tdquote: func(r *http.Request) string {
			var q struct{ Report string }
			text, _ := io.ReadAll(r.Body)
			if err := json.Unmarshal(text, &q); err != nil || r.Method != http.MethodPost {
				return ""
			}
			asked, _ = base64.RawURLEncoding.DecodeString(q.Report)
			return `{"quote":"` + base64.RawURLEncoding.EncodeToString([]byte("the quote")) + `"}`
		},
	})}
	item, err := c.Collect(t.Context(), bound)
	if err != nil || string(item.Parts["td_quote"]) != "the quote" || !bytes.Equal(asked, bytes.Repeat([]byte{0xaa}, 1024)) {
		t.Errorf("%q for a report of %d bytes: %v", item.Parts["td_quote"], len(asked), err)
	}
}

func TestMachineThatIsNotConfidential(t *testing.T) {
	for name, kind := range map[string]uint32{"no report": 0, "unknown hardware": 3} {
		c := azure.CVM{TPM: &paravisor{kind: kind}, Metadata: service(t, nil)}
		if f := c.Detect(t.Context()); f.Able && kind == 0 {
			t.Errorf("%s: %+v", name, f)
		}
		if _, err := c.Collect(t.Context(), bound); err == nil {
			t.Errorf("%s was collected", name)
		}
	}
}

func TestHostThatVouchesForNothing(t *testing.T) {
	for name, c := range map[string]struct {
		kind uint32
		path string
		text string
	}{
		"no pem": {2, thim, `{"vcekCert":"nothing"}`}, "no json of thim": {2, thim, `<`}, "no quote": {4, tdquote, `{}`},
		"quote is no base64": {4, tdquote, `{"quote":"***"}`}, "no json of quote": {4, tdquote, `<`}, "nothing": {2, "/", ""},
	} {
		m := azure.CVM{TPM: &paravisor{kind: c.kind}, Metadata: service(t, map[string]metadatatest.Answer{c.path: metadatatest.Text(c.text)})}
		if _, err := m.Collect(t.Context(), bound); err == nil {
			t.Errorf("%s was collected", name)
		}
	}
}

func TestNothingOfItIsForOtherClouds(t *testing.T) {
	s, err := metadata.New(metadata.Config{URL: metadatatest.Google(t, nil).URL})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []collect.Collector{azure.IMDS{Metadata: s}, azure.MSI{Metadata: s}, azure.CVM{Metadata: s, TPM: &paravisor{}}} {
		if f := c.Detect(t.Context()); f.Able || !strings.Contains(f.Why, "Google") {
			t.Errorf("%+v", f)
		}
		if _, err := c.Collect(t.Context(), bound); err == nil {
			t.Errorf("%s was collected", c.Format())
		}
	}
}
