package tsm_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/tsm"
	"github.com/zonebroker/zonebroker/verifier/document"
)

// kernel behaves as configfs-tsm: a folder that is made has attributes, each write
// counts, and a report is made of what was written last.
type kernel struct {
	provider string
	auxblob  []byte // nil: the driver has none
	denied   bool
	// intrude writes other data into a report of somebody else, this many times.
	intrude int
	out     func(data []byte) []byte

	entries map[string]*item
	made    int
}

type item struct {
	data       []byte
	generation int
}

func newKernel(provider string) *kernel {
	return &kernel{provider: provider, entries: map[string]*item{}, out: func(data []byte) []byte { return append([]byte("report of "), data...) }}
}

func (k *kernel) Mkdir(name string) error {
	switch {
	case k.provider == "":
		return fs.ErrNotExist
	case k.denied:
		return fs.ErrPermission
	case k.entries[name] != nil:
		return fs.ErrExist
	}
	k.made++
	k.entries[name] = &item{}
	return nil
}

func (k *kernel) Remove(name string) error {
	if k.entries[name] == nil {
		return fs.ErrNotExist
	}
	delete(k.entries, name)
	return nil
}

func (k *kernel) Write(path string, data []byte) error {
	e := k.entries[filepath.Dir(path)]
	if e == nil || filepath.Base(path) != "inblob" || len(data) > 64 {
		return fs.ErrInvalid
	}
	e.data = bytes.Clone(data)
	e.generation++
	if k.intrude > 0 {
		k.intrude--
		e.data = []byte("evil")
		e.generation++
	}
	return nil
}

func (k *kernel) Read(path string, _ int) ([]byte, error) {
	e := k.entries[filepath.Dir(path)]
	if e == nil {
		return nil, fs.ErrNotExist
	}
	switch filepath.Base(path) {
	case "provider":
		return []byte(k.provider + "\n"), nil
	case "generation":
		return []byte(strconv.Itoa(e.generation) + "\n"), nil
	case "outblob":
		return k.out(e.data), nil
	case "auxblob":
		if k.auxblob != nil {
			return k.auxblob, nil
		}
	}
	return nil, fs.ErrNotExist
}

// noGuest is a kernel without /dev/sev-guest.
var noGuest = tsm.Device{Root: "/nonexistent"}

var bound = collect.Bound{Value: [32]byte{1, 2, 3}, AK: []byte("an attestation key")}

func TestEachProviderIsAFormat(t *testing.T) {
	for provider, want := range map[string]string{"sev_guest": "snp", "tdx_guest": "tdx", "arm_cca_guest": "cca", "": "", "other": ""} {
		k := newKernel(provider)
		for _, c := range []collect.Collector{tsm.SNP{Tree: k, Guest: noGuest}, tsm.TDX{Tree: k, Root: t.TempDir()}, tsm.CCA{Tree: k}} {
			able := c.Format() == want
			if f := c.Detect(t.Context()); f.Able != able || f.Class != "A" || f.Why == "" {
				t.Errorf("%q, %s: %+v", provider, c.Format(), f)
			}
			got, err := c.Collect(t.Context(), bound)
			if (err == nil) != able {
				t.Errorf("%q, %s: %v", provider, c.Format(), err)
			}
			if !able {
				continue
			}
			data := document.ReportData(bound.Value, bound.AK)
			if c.Format() == "cca" {
				data = document.ReportData(bound.Value, nil)
			}
			if string(got.Document) != "report of "+string(data[:]) {
				t.Errorf("%s: %q", c.Format(), got.Document)
			}
		}
		if len(k.entries) != 0 {
			t.Errorf("%q: %d reports are left behind", provider, len(k.entries))
		}
	}
}

// Whoever may write the folder can change what is reported between our write and
// our read; such a report is made anew, and given up on in the end.
func TestReportThatSomebodyElseWroteInto(t *testing.T) {
	k := newKernel("tdx_guest")
	k.intrude = 2
	data := document.ReportData(bound.Value, bound.AK)
	item, err := tsm.TDX{Tree: k, Root: t.TempDir()}.Collect(t.Context(), bound)
	if err != nil || string(item.Document) != "report of "+string(data[:]) {
		t.Errorf("after two intrusions: %q, %v", item.Document, err)
	}
	k.intrude = 100
	if item, err := (tsm.TDX{Tree: k, Root: t.TempDir()}).Collect(t.Context(), bound); err == nil {
		t.Errorf("after a hundred: %q", item.Document)
	}
	if len(k.entries) != 0 {
		t.Errorf("%d reports are left behind", len(k.entries))
	}
}

func TestWithoutRightsThereIsAFix(t *testing.T) {
	k := newKernel("sev_guest")
	k.denied = true
	if f := (tsm.SNP{Tree: k, Guest: noGuest}).Detect(t.Context()); f.Able || f.Fix != "run as root" {
		t.Errorf("%+v", f)
	}
}

// table is a certificate table as GHCB has it.
func table(entries map[string][]byte) []byte {
	order := []string{"4ab7b379bbac4fe4a02f05aef327c782", "a8074bc2a25a483eaae639c045a0b8a1", "63da758de6644564adc5f4b93be8accd"}
	offset := (len(entries) + 1) * 24
	var head, body []byte
	for _, guid := range order {
		der, ok := entries[guid]
		if !ok {
			continue
		}
		id, _ := hex.DecodeString(guid)
		head = append(head, id...)
		head = binary.LittleEndian.AppendUint32(head, uint32(offset+len(body)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(der)))
		body = append(body, der...)
	}
	return append(append(head, make([]byte, 24)...), body...)
}

func TestCertificateOfTheKeyThatSigned(t *testing.T) {
	all := map[string][]byte{
		"63da758de6644564adc5f4b93be8accd": []byte("the vcek"), "a8074bc2a25a483eaae639c045a0b8a1": []byte("the vlek"),
		"4ab7b379bbac4fe4a02f05aef327c782": []byte("the ask"),
	}
	for name, c := range map[string]struct {
		keyInfo byte
		table   []byte
		want    map[string]string
	}{
		"vcek":            {0, table(all), map[string]string{"vcek": "the vcek"}},
		"vlek":            {1 << 2, table(all), map[string]string{"vlek": "the vlek"}},
		"author key bit":  {1, table(all), map[string]string{"vcek": "the vcek"}},
		"no table":        {0, nil, nil},
		"empty table":     {0, make([]byte, 4096), nil},
		"other keys":      {0, table(map[string][]byte{"4ab7b379bbac4fe4a02f05aef327c782": []byte("ask")}), nil},
		"cut in an entry": {0, table(all)[:20], nil},
		"cut in the body": {0, table(all)[:len(table(all))-1], nil},
		"long":            {0, table(map[string][]byte{"63da758de6644564adc5f4b93be8accd": make([]byte, 64<<10)}), nil},
	} {
		k := newKernel("sev_guest")
		k.auxblob = c.table
		k.out = func([]byte) []byte {
			report := make([]byte, 1184)
			report[0x48] = c.keyInfo
			return report
		}
		item, err := tsm.SNP{Tree: k, Guest: noGuest}.Collect(t.Context(), bound)
		if err != nil || len(item.Parts) != len(c.want) {
			t.Errorf("%s: parts %q, %v", name, item.Parts, err)
			continue
		}
		for part, want := range c.want {
			if string(item.Parts[part]) != want {
				t.Errorf("%s: %s is %q", name, part, item.Parts[part])
			}
		}
	}
}

// Offset and length are the host's, and may be anything.
func FuzzCertificateTable(f *testing.F) {
	f.Add(table(map[string][]byte{"63da758de6644564adc5f4b93be8accd": []byte("the vcek")}), byte(0))
	id, _ := hex.DecodeString("63da758de6644564adc5f4b93be8accd")
	f.Add(append(id, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), byte(0))
	f.Add(append(id, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0), byte(0))
	f.Fuzz(func(t *testing.T, table []byte, keyInfo byte) {
		k := newKernel("sev_guest")
		k.auxblob = table
		k.out = func([]byte) []byte { return append(make([]byte, 0x48), keyInfo) }
		item, err := tsm.SNP{Tree: k, Guest: noGuest}.Collect(t.Context(), bound)
		if err != nil {
			t.Fatal(err)
		}
		for name, part := range item.Parts {
			if !bytes.Contains(table, part) {
				t.Errorf("%s is not of the table", name)
			}
		}
	})
}

// guest is /dev/sev-guest with recorded bytes.
type guest struct {
	asked [64]byte
	err   error
}

func (g *guest) Present() bool { return true }
func (g *guest) Report(data [64]byte) ([]byte, []byte, error) {
	g.asked = data
	return make([]byte, 1184), table(map[string][]byte{"63da758de6644564adc5f4b93be8accd": []byte("the vcek")}), g.err
}

func TestOlderKernelIsAskedByItsDevice(t *testing.T) {
	g := &guest{}
	c := tsm.SNP{Tree: newKernel(""), Guest: g}
	if f := c.Detect(t.Context()); !f.Able || !strings.Contains(f.Why, "/dev/sev-guest") {
		t.Errorf("%+v", f)
	}
	item, err := c.Collect(t.Context(), bound)
	if err != nil || g.asked != document.ReportData(bound.Value, bound.AK) || string(item.Parts["vcek"]) != "the vcek" {
		t.Errorf("asked for %x, got %q: %v", g.asked, item.Parts, err)
	}
	g.err = errors.New("throttled")
	if _, err := c.Collect(t.Context(), bound); !errors.Is(err, g.err) {
		t.Errorf("%v", err)
	}
}

func TestMessageOfTheFirmware(t *testing.T) {
	message := func(status, size uint32) []byte {
		m := make([]byte, 4000)
		binary.LittleEndian.PutUint32(m, status)
		binary.LittleEndian.PutUint32(m[4:], size)
		m[0x20] = 0x42
		return m
	}
	if report, err := tsm.ReportIn(message(0, 1184)); err != nil || len(report) != 1184 || report[0] != 0x42 {
		t.Errorf("%d bytes, %v", len(report), err)
	}
	for name, m := range map[string][]byte{"status": message(0x16, 1184), "size": message(0, 1200), "empty": nil, "short": message(0, 1184)[:0x20+1183]} {
		if _, err := tsm.ReportIn(m); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestEventLogGoesWithTheQuote(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "sys/firmware/acpi/tables/data/CCEL")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("log"), 0o600); err != nil {
		t.Fatal(err)
	}
	item, err := tsm.TDX{Tree: newKernel("tdx_guest"), Root: root}.Collect(t.Context(), bound)
	if err != nil || string(item.Parts["event_log"]) != "log" {
		t.Errorf("%q, %v", item.Parts, err)
	}
	if err := os.WriteFile(path, make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (tsm.TDX{Tree: newKernel("tdx_guest"), Root: root}).Collect(t.Context(), bound); !errors.Is(err, collect.ErrTooLarge) {
		t.Errorf("%v", err)
	}
}

// The kernel's own tree, on a file system that has none of its behaviour: names
// and errors are what can be seen here.
func TestKernelsTree(t *testing.T) {
	root := t.TempDir()
	c := tsm.CCA{Tree: tsm.Kernel{Root: root}}
	if f := c.Detect(t.Context()); f.Able || !strings.Contains(f.Fix, "modprobe") {
		t.Errorf("%+v", f)
	}
	reports := filepath.Join(root, "sys/kernel/config/tsm/report")
	if err := os.MkdirAll(reports, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Collect(t.Context(), bound); err == nil {
		t.Error("a report without attributes")
	}
	if left, _ := os.ReadDir(reports); len(left) != 0 {
		t.Errorf("%d reports are left behind", len(left))
	}
}
