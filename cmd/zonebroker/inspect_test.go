package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	imabuild "github.com/zonebroker/zonebroker/verifier/ima/build"
)

// inspected runs a command over files in a folder of its own.
func inspected(t *testing.T, files map[string][]byte, args ...string) (code int, out, notes string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(".", name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var o, n bytes.Buffer
	code = run(t.Context(), append([]string{"inspect"}, args...), strings.NewReader(""), &o, &n)
	return code, o.String(), n.String()
}

func TestInspect(t *testing.T) {
	p := evidencetest.New(t)
	evidencetest.NewMaker(t).Endorse(t, p)
	attest, _ := p.Quote(t, evidencetest.Selection, []byte("nonce"))
	certify := p.Certify(t, evidencetest.NewSVIDKey(t), []byte("nonce"))
	values := map[string]string{}
	for i, v := range p.Values(evidencetest.Selection) {
		values[strconv.Itoa(i)] = hex.EncodeToString(v)
	}
	good, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	values["4"] = strings.Repeat("ab", 32)
	other, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	list := imabuild.New(imabuild.File("/usr/bin/true", []byte("true")), imabuild.Violation("/tmp/\x1b[31mred"))
	files := map[string][]byte{
		"log": p.EventLog, "old": build.Machine{KernelVersion: "6.1.0-1-old"}.Log().Bytes(), "good.json": good, "other.json": other,
		"list": list.Bytes(), "ek": append(bytes.Clone(p.EKCertificate), bytes.Repeat([]byte{0xff}, 20)...), "quote": attest, "certify": certify.Attest,
		"ak": p.AK.Public, "junk": []byte("junk"), "pcr10.json": []byte(`{"10":"` + hex.EncodeToString(imabuild.PCR10(list.Extends())) + `"}`),
		"empty.json": []byte(`{"23":"00"}`),
	}
	for name, c := range map[string]struct {
		args   []string
		code   int
		wanted []string // in the output or notes
	}{
		"log":            {[]string{"eventlog", "log"}, 0, []string{"EV_EFI_BOOT_SERVICES_APPLICATION", "pcr  7 leads to ", "pcr  7 * EV_SEPARATOR"}},
		"log as given":   {[]string{"eventlog", "log", "--pcrs", "good.json"}, 0, []string{"pcr 7 is as given"}},
		"log differs":    {[]string{"eventlog", "log", "--pcrs", "other.json"}, 3, []string{"pcr 4 differs: expected " + values["4"] + ", seen ", "eventlog.replay_mismatch: the log leads to other values in PCR 4\n"}},
		"log, no values": {[]string{"eventlog", "log", "--pcrs", "junk"}, 1, []string{"error"}},
		"diff":           {[]string{"eventlog", "log", "--diff", "old"}, 0, []string{"pcr 9 changed; before: event ", "; after: event "}},
		"bank":           {[]string{"eventlog", "log", "--bank", "sha3"}, 2, []string{"--bank"}},
		"no log":         {[]string{"eventlog", "junk"}, 1, []string{"eventlog."}},
		"ima":            {[]string{"ima", "list"}, 0, []string{"/usr/bin/true", "VIOLATION", "pcr 10 leads to "}},
		"ima as given":   {[]string{"ima", "list", "--pcrs", "pcr10.json"}, 0, []string{"pcr 10 is as given"}},
		"ima, other PCR": {[]string{"ima", "list", "--pcrs", "empty.json"}, 1, []string{"no value of a PCR"}},
		"no list":        {[]string{"ima", "junk"}, 1, []string{"ima."}},
		"ekcert":         {[]string{"ekcert", "ek"}, 0, []string{"2.23.133.8.1", "20 bytes of header and fill", "key of an EK         good"}},
		"no ekcert":      {[]string{"ekcert", "junk"}, 1, []string{"ekcert.encoding"}},
		"quote":          {[]string{"quote", "quote"}, 0, []string{"type              quote", "extra data        6e6f6e6365", "bank 0x000b, mask ff4300"}},
		"certify":        {[]string{"quote", "certify"}, 0, []string{"type              certify", "qualified name"}},
		"no quote":       {[]string{"quote", "junk"}, 1, []string{"tpm2.attest."}},
		"akpublic":       {[]string{"akpublic", "ak"}, 0, []string{"fixedTPM", "restricted", "as an AK           good", "as an EK           tpm2.ek.template"}},
		"no akpublic":    {[]string{"akpublic", "junk"}, 1, []string{"tpm2.ak."}},
		"gone":           {[]string{"quote", "gone"}, 1, []string{"no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, notes := inspected(t, files, c.args...)
			if code != c.code {
				t.Errorf("exit %d, want %d: %s", code, c.code, notes)
			}
			for _, want := range c.wanted {
				if !strings.Contains(out+notes, want) {
					t.Errorf("no %q in\n%s%s", want, out, notes)
				}
			}
			if strings.Contains(out+notes, "\x1b") {
				t.Error("bytes of the file reached the terminal")
			}
		})
	}
}
