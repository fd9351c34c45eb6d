package nvidia_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/nvidia"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// This file holds one case for each check of reports, tokens and references that
// the cases beside it would not miss.

type opaqueItem struct {
	kind  uint16
	value []byte
}

// opaque replaces the opaque data of the second device.
func opaque(items ...opaqueItem) func(*lab) {
	return messages(func(m []byte) []byte {
		at := 37 + 8 + int(m[42]) + int(m[43])<<8 + 32
		var data []byte
		for _, i := range items {
			data = binary.LittleEndian.AppendUint16(data, i.kind)
			data = append(binary.LittleEndian.AppendUint16(data, uint16(len(i.value))), i.value...)
		}
		return append(binary.LittleEndian.AppendUint16(slices.Clone(m[:at]), uint16(len(data))), data...)
	})
}

func driver(s string) func(*lab) {
	return func(l *lab) { l.devices[1].Driver = s }
}

// extension changes a byte of what certifies the firmware.
func extension(at int, v byte) func(*lab) {
	return leaf(func(c *x509.Certificate) { c.ExtraExtensions[0].Value[at] = v })
}

func blackwell(old, with byte, behind int) func(*lab) {
	return func(l *lab) {
		l.devices[1].Blackwell = true
		leaf(func(c *x509.Certificate) {
			v := c.ExtraExtensions[0].Value
			at := bytes.IndexByte(v, 0xa6) + behind
			if v[at] != old {
				panic("the extension has another form")
			}
			v[at] = with
		})(l)
	}
}

// resized makes the report of the second device n bytes long by opaque data.
func resized(n int) func(*lab) {
	const fixed = 37 + 8 + 3*(4+3+48) + 32 + 2 + 4 + 96
	return opaque(opaqueItem{200, make([]byte, n-fixed)})
}

func TestReportChecks(t *testing.T) {
	weak, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	certificate := func(change func([]byte) string) func(*lab) {
		return func(l *lab) {
			l.edit = func(d []documenttest.GPU) []documenttest.GPU {
				chain, err := base64.StdEncoding.DecodeString(d[1].Certificate)
				if err != nil {
					panic(err)
				}
				d[1].Certificate = change(chain)
				return d
			}
		}
	}
	filled := func(n int) func(*lab) {
		return certificate(func(b []byte) string {
			return base64.StdEncoding.EncodeToString(append(b, bytes.Repeat([]byte("\n"), n-len(b))...))
		})
	}
	many := func(n int) func(*lab) {
		return func(l *lab) { l.devices = slices.Repeat(l.devices[:1], n) }
	}
	for name, c := range map[string]struct {
		change func(*lab)
		want   reason.Code
	}{
		"a key on P-256":                     {func(l *lab) { l.devices[1].Key = weak.Public() }, reason.NvidiaUntrusted},
		"an RSA key":                         {func(l *lab) { l.devices[1].Key = rsaKey.Public() }, reason.NvidiaUntrusted},
		"a device that the root issued":      {func(l *lab) { l.devices[1].Short = true }, ""},
		"no firmware in the report":          {opaque(opaqueItem{3, []byte("550.90.07\x00")}), ""},
		"firmware in a SET":                  {extension(0, 0x31), reason.NvidiaUntrusted},
		"firmware without a version":         {extension(2, 0x04), reason.NvidiaUntrusted},
		"firmware with another form of key":  {extension(5, 0x31), reason.NvidiaUntrusted},
		"a digest in a SET":                  {extension(16, 0x31), reason.NvidiaUntrusted},
		"a digest without an algorithm":      {extension(18, 0x04), reason.NvidiaUntrusted},
		"a digest that is text":              {extension(29, 0x0c), reason.NvidiaUntrusted},
		"the digests under another tag":      {blackwell(0xa6, 0xa7, 0), reason.NvidiaUntrusted},
		"a digest in a SET, as of Blackwell": {blackwell(0x30, 0x31, 2), reason.NvidiaUntrusted},
		"sixteen devices":                    {many(16), ""},
		"seventeen good devices":             {many(17), reason.NvidiaMalformed},
		"a chain with no base64 behind": {certificate(func(b []byte) string {
			return base64.StdEncoding.EncodeToString(append(b, bytes.Repeat([]byte("\n"), 3-len(b)%3)...)) + "!!!!"
		}), reason.NvidiaMalformed},
		"a chain of 16 KiB":     {filled(16 << 10), ""},
		"a chain above 16 KiB":  {filled(16<<10 + 1), reason.NvidiaMalformed},
		"a report of 16 KiB":    {resized(16 << 10), ""},
		"a report above 16 KiB": {resized(16<<10 + 1), reason.NvidiaMalformed},
		"a report with no base64 behind": {func(l *lab) {
			resized(3 * 500)(l)
			l.edit = func(d []documenttest.GPU) []documenttest.GPU { d[1].Evidence += "!!!!"; return d }
		}, reason.NvidiaMalformed},
		"a report of 40 bytes": {func(l *lab) {
			l.edit = func(d []documenttest.GPU) []documenttest.GPU {
				begin, _ := base64.StdEncoding.DecodeString(d[1].Evidence)
				d[1].Evidence = base64.StdEncoding.EncodeToString(begin[:40])
				return d
			}
		}, reason.NvidiaMalformed},
		"a block that is not counted":  {put(41, 2), reason.NvidiaMalformed},
		"a record of nothing":          {func(l *lab) { l.devices[1].Measurements = map[byte][]byte{} }, reason.NvidiaMalformed},
		"a type of opaque data twice":  {opaque(opaqueItem{200, nil}, opaqueItem{200, nil}), reason.NvidiaMalformed},
		"the last type of opaque data": {opaque(opaqueItem{255, nil}), ""},
		"a driver of 64 letters":       {driver(strings.Repeat("a", 64)), ""},
		"a driver of 65 letters":       {driver(strings.Repeat("a", 65)), reason.NvidiaMalformed},
		"the first and last letter":    {driver("!~"), ""},
		"a driver with a space":        {driver("a b"), reason.NvidiaMalformed},
		"a driver with a control":      {driver("a\x7f"), reason.NvidiaMalformed},
		"256 KiB": {func(l *lab) {
			l.raw = func(b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), nvidia.MaxEvidence-len(b))...) }
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab()
			c.change(l)
			_, err := l.verify(t)
			if reason.Of(err) != c.want {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	l := newLab()
	l.rims = nil
	l.devices[1].Measurements = map[byte][]byte{1: make([]byte, 64)}
	if _, err := l.verify(t); err != nil {
		t.Errorf("a measurement of 64 bytes: %v", err)
	}
}

// TestVersionOfVBIOS: what has another form is no version, and finds no reference.
func TestVersionOfVBIOS(t *testing.T) {
	for name, c := range map[string]struct {
		value []byte
		want  []string
	}{
		"good":       {[]byte{0, 0x9f, 0, 0x96, 1, 0, 0, 0}, []string{"96.00.9F.00.01"}},
		"more in it": {[]byte{0, 0x9f, 0, 0x96, 1, 0, 0, 1}, nil},
		"seven":      {[]byte{0, 0x9f, 0, 0x96, 1, 0, 0}, nil},
		"nine":       {[]byte{0, 0x9f, 0, 0x96, 1, 0, 0, 0, 0}, nil},
	} {
		l := newLab()
		opaque(opaqueItem{6, c.value}, opaqueItem{3, []byte("550.90.07\x00")})(l)
		l.devices = l.devices[1:]
		e, err := l.verify(t)
		if f := e.Facts(); err != nil || !slices.Equal(f.Values("nvidia.vbios"), c.want) {
			t.Errorf("%s: %v, %v", name, f.Values("nvidia.vbios"), err)
		}
	}
}

func TestTokenChecks(t *testing.T) {
	submodule := func(change func([]any) any) func(*eat) {
		return func(e *eat) {
			e.overall = func(c map[string]any) {
				all, _ := c["submods"].(map[string]any)
				one, _ := all["GPU-1"].([]any)
				all["GPU-1"] = change(one)
			}
		}
	}
	gpu := func(name string, value any) func(*eat) { return func(e *eat) { e.devices["GPU-1"][name] = value } }
	many := func(n int) func(*eat) {
		return func(e *eat) {
			one := e.devices["GPU-0"]
			clear(e.devices)
			for i := range n {
				e.devices[fmt.Sprintf("GPU-%d", i)] = one
			}
		}
	}
	digest := func(one []any) string { return one[1].([]string)[1] }
	for name, c := range map[string]struct {
		change func(*eat)
		want   reason.Code
	}{
		"a token that is a number": {func(e *eat) {
			e.raw = func([]byte) []byte { return []byte(`[["JWT","x"],{"GPU-0":"x","GPU-1":1}]`) }
		}, reason.NvidiaMalformed},
		"an overall token that is a number": {func(e *eat) {
			e.raw = func([]byte) []byte { return []byte(`[["JWT",1],{"GPU-0":"x"}]`) }
		}, reason.NvidiaMalformed},
		"sixteen devices":                   {many(16), ""},
		"seventeen devices":                 {many(17), reason.NvidiaMalformed},
		"a claim of another type":           {gpu("secboot", "yes"), reason.JWTMalformed},
		"a nonce with no hex behind":        {gpu("eat_nonce", hex.EncodeToString(nonce[:])+"zz"), reason.NvidiaNonceMismatch},
		"a submodule of three parts":        {submodule(func(one []any) any { return append(one, 1) }), reason.NvidiaSubmoduleDigest},
		"a submodule that is no digest":     {submodule(func(one []any) any { return []any{"JWT", one[1]} }), reason.NvidiaSubmoduleDigest},
		"a digest of three parts":           {submodule(func(one []any) any { return []any{"DIGEST", []string{"SHA-256", digest(one), "x"}} }), reason.NvidiaSubmoduleDigest},
		"a digest that is called otherwise": {submodule(func(one []any) any { return []any{"DIGEST", []string{"MD5", digest(one)}} }), reason.NvidiaSubmoduleDigest},
		"a claim of another that is false":  {gpu("x-other", false), ""},
		"a chain without a status":          {gpu("x-nvidia-gpu-vbios-rim-cert-chain", map[string]any{"x": 1}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEAT()
			c.change(e)
			_, err := e.verify(t)
			if reason.Of(err) != c.want {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func found(f document.Facts) string {
	var out []string
	for _, c := range f.Findings {
		out = append(out, c.Check)
	}
	for i := range f.Selectors[1:] {
		if f.Selectors[i].Name > f.Selectors[i+1].Name {
			out = append(out, "out of order")
		}
	}
	return strings.Join(out, " ")
}

// TestFindingsNamed: the report says which checks held, of reports and of tokens.
func TestFindingsNamed(t *testing.T) {
	l := newLab()
	got, err := l.verify(t)
	if err != nil || found(got.Facts()) != "nvidia.signature nvidia.nonce nvidia.measurements" {
		t.Errorf("reports: %s, %v", found(got.Facts()), err)
	}
	l.want.Nonce = nil
	if got, err = l.verify(t); err != nil || found(got.Facts()) != "nvidia.signature nvidia.measurements" {
		t.Errorf("reports without a nonce: %s, %v", found(got.Facts()), err)
	}
	if got, err = newEAT().verify(t); err != nil || !strings.HasPrefix(found(got.Facts()), "nvidia.token nvidia.nonce") || strings.Contains(found(got.Facts()), "order") {
		t.Errorf("tokens: %s, %v", found(got.Facts()), err)
	}
}

// TestReferenceChecks: a set that is read in part would judge in part.
func TestReferenceChecks(t *testing.T) {
	good := string(documenttest.GPUReference("vbios"))
	value := hex.EncodeToString(documenttest.GPUMeasurement(3))
	for name, c := range map[string]struct {
		text string
		good bool
	}{
		"256 KiB":                    {good + strings.Repeat(" ", nvidia.MaxRIM-len(good)), true},
		"the first and last ignored": {strings.Replace(good, `"ignored":[]`, `"ignored":[1,254]`, 1), true},
		"the last index":             {strings.Replace(good, `"index":3`, `"index":254`, 1), true},
		"no hex behind a value":      {strings.Replace(good, value, value+"zz", 1), false},
		"a value of 64 bytes":        {strings.Replace(good, value, strings.Repeat("00", 64), 1), true},
		"a value of 65 bytes":        {strings.Replace(good, value, strings.Repeat("00", 65), 1), false},
	} {
		if _, err := nvidia.NewTrust(nil, map[string][]byte{"v": []byte(c.text)}, jwt.Issuers{}); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
