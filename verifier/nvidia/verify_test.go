package nvidia_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/nvidia"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

var (
	noon  = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	nonce = [32]byte{0xaa, 1, 2}
)

// lab is evidence of devices of a test PKI.
type lab struct {
	pki     *documenttest.NVIDIAPKI
	devices []documenttest.GPUFields
	edit    func([]documenttest.GPU) []documenttest.GPU
	raw     func([]byte) []byte
	roots   [][]byte
	rims    map[string][]byte
	want    nvidia.Expectation
	now     time.Time
}

func newLab() *lab {
	pki := documenttest.NewNVIDIAPKI(noon)
	return &lab{
		pki: pki, devices: []documenttest.GPUFields{{Nonce: nonce}, {Nonce: nonce}}, roots: [][]byte{pki.RootPEM()},
		rims: map[string][]byte{"d": documenttest.GPUReference("driver"), "v": documenttest.GPUReference("vbios")},
		want: nvidia.Expectation{Nonce: nonce[:]}, now: noon,
	}
}

func (l *lab) verify(t testing.TB) (nvidia.Evidence, error) {
	t.Helper()
	var devices []documenttest.GPU
	for _, f := range l.devices {
		devices = append(devices, l.pki.Device(f))
	}
	if l.edit != nil {
		devices = l.edit(devices)
	}
	raw := documenttest.GPUEvidence(devices...)
	if l.raw != nil {
		raw = l.raw(raw)
	}
	trust, err := nvidia.NewTrust(l.roots, l.rims, jwt.Issuers{})
	if err != nil {
		t.Fatal(err)
	}
	return nvidia.Verify(raw, l.want, trust, l.now)
}

// messages edits both messages of the second device before it signs them.
func messages(edit func([]byte) []byte) func(*lab) {
	return func(l *lab) { l.devices[1].EditMessages = edit }
}

func put(at int, b ...byte) func(*lab) {
	return messages(func(m []byte) []byte { copy(m[at:], b); return m })
}

func leaf(edit func(*x509.Certificate)) func(*lab) {
	return func(l *lab) { l.devices[1].EditLeaf = edit }
}

func text(old, with string) func(*lab) {
	return func(l *lab) {
		l.raw = func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				panic("the evidence has no " + old)
			}
			return bytes.Replace(b, []byte(old), []byte(with), 1)
		}
	}
}

// TestReports: each forgery of SPDM evidence is one change of good evidence of two
// devices (test PKI), in the second of them.
func TestReports(t *testing.T) {
	const blocks = 37 + 8 // the first measurement
	last := func(b []byte) []byte { return b[:len(b)-1] }
	for name, c := range map[string]struct {
		change func(*lab)
		want   reason.Code
	}{
		"good":                  {func(*lab) {}, ""},
		"no nonce asked for":    {func(l *lab) { l.want.Nonce, l.devices[1].Nonce = nil, [32]byte{} }, ""},
		"another nonce":         {func(l *lab) { l.devices[1].Nonce = [32]byte{} }, reason.NvidiaNonceMismatch},
		"an empty nonce wanted": {func(l *lab) { l.want.Nonce = []byte{} }, reason.NvidiaNonceMismatch},
		"root of another":       {func(l *lab) { l.roots = [][]byte{documenttest.NewNVIDIAPKI(noon).RootPEM()} }, reason.NvidiaUntrusted},
		"no root":               {func(l *lab) { l.roots = nil }, reason.NvidiaUntrusted},
		"no time":               {func(l *lab) { l.now = time.Time{} }, reason.NvidiaUntrusted},
		"leaf expired":          {leaf(func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) }), reason.NvidiaUntrusted},
		"leaf is a CA":          {leaf(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), reason.NvidiaUntrusted},
		"leaf issues":           {leaf(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }), reason.NvidiaUntrusted},
		"unknown critical extension": {leaf(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}), reason.NvidiaUntrusted},
		"key certified for other firmware": {leaf(func(c *x509.Certificate) { c.ExtraExtensions[0].Value[len(c.ExtraExtensions[0].Value)-1] ^= 1 }), reason.NvidiaUntrusted},
		"no firmware certified":            {leaf(func(c *x509.Certificate) { c.ExtraExtensions = nil }), reason.NvidiaUntrusted},
		"leaf of a CA":                     {func(l *lab) { l.devices[1].Direct = true }, reason.NvidiaUntrusted},
		"report of the other device": {func(l *lab) {
			l.edit = func(d []documenttest.GPU) []documenttest.GPU { d[1].Evidence = d[0].Evidence; return d }
		}, reason.NvidiaSignature},
		"one device twice": {func(l *lab) {
			l.edit = func(d []documenttest.GPU) []documenttest.GPU { return append(d, d[0]) }
		}, reason.NvidiaMalformed},
		"no device":             {func(l *lab) { l.devices = nil }, reason.NvidiaMalformed},
		"seventeen devices":     {func(l *lab) { l.raw = func([]byte) []byte { return []byte("[" + strings.Repeat("{},", 16) + "{}]") } }, reason.NvidiaMalformed},
		"too large":             {func(l *lab) { l.raw = func(b []byte) []byte { return append(b, make([]byte, nvidia.MaxEvidence)...) } }, reason.RequestTooLarge},
		"bytes behind":          {func(l *lab) { l.raw = func(b []byte) []byte { return append(b, '[') } }, reason.NvidiaMalformed},
		"unknown member":        {text(`"arch"`, `"more":1,"arch"`), reason.NvidiaMalformed},
		"member twice":          {text(`"nonce":`, `"arch":"HOPPER","nonce":`), reason.NvidiaMalformed},
		"no base64":             {text(`"evidence":"E`, `"evidence":"!`), reason.NvidiaMalformed},
		"no PEM":                {text(`"certificate":"LS0t`, `"certificate":"MS0t`), reason.NvidiaMalformed},
		"nothing":               {func(l *lab) { l.raw = func([]byte) []byte { return nil } }, reason.NvidiaMalformed},
		"request of SPDM 1.2":   {put(0, 0x12), reason.NvidiaMalformed},
		"another request":       {put(1, 0xe1), reason.NvidiaMalformed},
		"unsigned request":      {put(2, 0), reason.NvidiaMalformed},
		"request of one index":  {put(3, 1), reason.NvidiaMalformed},
		"response of SPDM 1.2":  {put(37, 0x12), reason.NvidiaMalformed},
		"an error":              {put(38, 0x7f), reason.NvidiaMalformed},
		"a block more":          {put(41, 4), reason.NvidiaMalformed},
		"no block":              {put(41, 0), reason.NvidiaMalformed},
		"record of 16 MB":       {put(44, 0xff), reason.NvidiaMalformed},
		"an index twice":        {put(blocks, 2), reason.NvidiaMalformed},
		"another specification": {put(blocks+1, 2), reason.NvidiaMalformed},
		"block longer":          {put(blocks+2, 52), reason.NvidiaMalformed},
		"value longer":          {put(blocks+5, 49), reason.NvidiaMalformed},
		"value shorter":         {put(blocks+5, 47), reason.NvidiaMalformed},
		"cut":                   {messages(last), reason.NvidiaMalformed},
		"a byte more":           {messages(func(m []byte) []byte { return append(m, 0) }), reason.NvidiaMalformed},
		"header only":           {messages(func(m []byte) []byte { return m[:0] }), reason.NvidiaMalformed},
		"opaque type twice":     {messages(func(m []byte) []byte { m[len(m)-6] = 3; return m }), reason.NvidiaMalformed},
		"opaque type above 255": {messages(func(m []byte) []byte { m[len(m)-5] = 1; return m }), reason.NvidiaMalformed},
		"opaque value longer":   {messages(func(m []byte) []byte { m[len(m)-4] = 3; return m }), reason.NvidiaMalformed},
		"driver with a line":    {func(l *lab) { l.devices[1].Driver = "550\n" }, reason.NvidiaMalformed},
		"another measurement":   {func(l *lab) { l.devices[1].Measurements = measured(2, 9) }, reason.NvidiaResult},
		"a measurement less":    {func(l *lab) { l.devices[1].Measurements = measured(3, 0) }, reason.NvidiaResult},
		"a measurement more":    {func(l *lab) { l.devices[1].Measurements = measured(4, 4) }, reason.NvidiaResult},
		"a longer measurement":  {func(l *lab) { l.devices[1].Measurements = map[byte][]byte{1: make([]byte, 65)} }, reason.NvidiaMalformed},
		"an empty measurement":  {func(l *lab) { l.devices[1].Measurements = map[byte][]byte{1: {}} }, reason.NvidiaMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab()
			c.change(l)
			e, err := l.verify(t)
			if reason.Of(err) != c.want && (err != nil || c.want != "") {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if f := e.Facts(); err != nil && (f.NonceBound || len(f.Selectors) > 0) {
				t.Error("refused evidence has facts")
			}
			if err == nil && len(e.Facts().Hazards) > 0 {
				t.Errorf("hazards %v", e.Facts().Hazards)
			}
		})
	}
}

// measured are the three measurements of a good device with that index set to the
// measurement with, or taken out where with is 0.
func measured(index, with byte) map[byte][]byte {
	out := map[byte][]byte{}
	for i := byte(1); i <= 3; i++ {
		out[i] = documenttest.GPUMeasurement(i)
	}
	if out[index] = documenttest.GPUMeasurement(with); with == 0 {
		delete(out, index)
	}
	return out
}

// TestReferences: a device without a reference is genuine and a hazard; what is
// there is compared all the same.
func TestReferences(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*lab)
		hazards int
		want    reason.Code
	}{
		"none":                    {func(l *lab) { l.rims = nil }, 2, ""},
		"driver only":             {func(l *lab) { delete(l.rims, "v") }, 2, ""},
		"VBIOS only":              {func(l *lab) { delete(l.rims, "d") }, 2, ""},
		"one device has another":  {func(l *lab) { l.devices[1].Driver = "570.1" }, 1, ""},
		"driver only and another": {func(l *lab) { delete(l.rims, "v"); l.devices[0].Measurements = measured(1, 9) }, 0, reason.NvidiaResult},
		"ignored": {func(l *lab) {
			l.rims["d"] = bytes.Replace(l.rims["d"], []byte(`"ignored":[]`), []byte(`"ignored":[4]`), 1)
			l.devices[0].Measurements = measured(4, 7)
		}, 0, ""},
		"two values": {func(l *lab) {
			l.rims["d"] = bytes.Replace(l.rims["d"], []byte(`"values":[`), []byte(fmt.Sprintf(`"values":["%x",`, documenttest.GPUMeasurement(7))), 1)
			l.devices[0].Measurements = measured(1, 7)
		}, 0, ""},
		"both name it, differently": {func(l *lab) {
			l.rims["v"] = bytes.Replace(l.rims["v"], []byte(`"measurements":[`), []byte(`"measurements":[{"index":1,"values":["00"]},`), 1)
		}, 0, reason.NvidiaResult},
		"of another chip": {func(l *lab) { l.rims["d"] = bytes.Replace(l.rims["d"], []byte("GH100"), []byte("GB100"), 1) }, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab()
			c.change(l)
			e, err := l.verify(t)
			if reason.Of(err) != c.want && (err != nil || c.want != "") {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			f := e.Facts()
			if len(f.Hazards) != c.hazards || c.hazards > 0 && f.Hazards[0].Code != reason.NvidiaRIMMissing {
				t.Errorf("hazards %v", f.Hazards)
			}
			if measured := len(f.Values("nvidia.measured")) > 0; measured != (c.hazards == 0 && c.want == "") {
				t.Errorf("nvidia.measured stands: %v", measured)
			}
		})
	}
}

// TestReferenceForm: what an operator may configure.
func TestReferenceForm(t *testing.T) {
	good := string(documenttest.GPUReference("driver"))
	for name, c := range map[string][2]string{
		"kind": {`"driver"`, `"firmware"`}, "chip": {`"GH100"`, `""`}, "version": {`"550.90.07"`, `""`},
		"unknown member": {`"kind"`, `"more":1,"kind"`}, "index 0": {`"index":1`, `"index":0`}, "index 255": {`"index":1`, `"index":255`},
		"index twice": {`"index":1`, `"index":2`}, "no values": {`"values":["` + hex.EncodeToString(documenttest.GPUMeasurement(1)) + `"]`, `"values":[]`},
		"no hex": {`"values":["`, `"values":["zz`}, "empty value": {`"values":["`, `"values":["","`},
		"ignored twice": {`"ignored":[]`, `"ignored":[4,4]`}, "ignored and measured": {`"ignored":[]`, `"ignored":[1]`},
		"ignored 0": {`"ignored":[]`, `"ignored":[0]`}, "ignored 255": {`"ignored":[]`, `"ignored":[255]`},
		"too large": {`"kind"`, strings.Repeat(" ", nvidia.MaxRIM) + `"kind"`},
	} {
		if !strings.Contains(good, c[0]) {
			t.Fatalf("%s: the reference has no %s", name, c[0])
		}
		if _, err := nvidia.NewTrust(nil, map[string][]byte{"x": []byte(strings.Replace(good, c[0], c[1], 1))}, jwt.Issuers{}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := nvidia.NewTrust(nil, map[string][]byte{"x": []byte(good), "y": []byte(good)}, jwt.Issuers{}); err == nil {
		t.Error("two sets for one version are taken")
	}
	empty := `{"kind":"driver","chip":"GH100","version":"1","measurements":[],"ignored":[1]}`
	if _, err := nvidia.NewTrust(nil, map[string][]byte{"x": []byte(empty)}, jwt.Issuers{}); err == nil {
		t.Error("a set without measurements is taken")
	}
	if _, err := nvidia.NewTrust([][]byte{[]byte("x")}, nil, jwt.Issuers{}); err == nil {
		t.Error("a root that is none is taken")
	}
}

// TestFacts: what evidence of two devices says; where they differ, no value stands
// for one of them.
func TestFacts(t *testing.T) {
	l := newLab()
	e, err := l.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	f := e.Facts()
	if f.Class != document.ClassA || !f.NonceBound || f.Machine != (document.Machine{}) || len(f.Owners) > 0 {
		t.Errorf("%+v", f)
	}
	want := map[string]string{
		"nvidia.form": "spdm", "nvidia.devices": "2", "nvidia.hwmodel": "GH100 A01 GSP BROM", "nvidia.driver": "550.90.07",
		"nvidia.vbios": "96.00.9F.00.01", "nvidia.measured": "true",
	}
	for name, v := range want {
		if got := f.Values(name); len(got) != 1 || got[0] != v {
			t.Errorf("%s is %v, want %s", name, got, v)
		}
	}
	if ids := f.Values("nvidia.ueid"); len(ids) != 2 || ids[0] == ids[1] {
		t.Errorf("devices %v", ids)
	}
	l.devices[1].Driver, l.want.Nonce = "570.1", nil
	if e, err = l.verify(t); err != nil {
		t.Fatal(err)
	}
	if f = e.Facts(); f.Class != document.ClassC || f.NonceBound || f.Values("nvidia.driver")[0] != nvidia.Mixed || f.Values("nvidia.vbios")[0] != "96.00.9F.00.01" {
		t.Errorf("%+v", f)
	}
}
