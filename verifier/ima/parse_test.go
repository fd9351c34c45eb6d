package ima_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestParseRefuses what is not the binary form, each by its code.
func TestParseRefuses(t *testing.T) {
	good := machine(2).Bytes()
	legacy := build.New(build.Measured("ima", append(make([]byte, 20), "/bin/sh"...))).Bytes()
	name := func(n int) []byte {
		return build.New(build.Entry{PCR: 10, Template: strings.Repeat("x", n)}).Bytes()
	}
	for what, tc := range map[string]struct {
		raw  []byte
		code reason.Code
	}{
		"nothing":             {nil, reason.IMAMissing},
		"ascii":               {[]byte("10 1d8d532d463c9f8c205d0df7787669a85f93e260 ima-ng sha1:00 boot_aggregate\n"), reason.IMAEncoding},
		"no_name":             {put32(good, 24, 0), reason.IMAEncoding},
		"name_of_256":         {name(256), reason.IMAEncoding},
		"name_not_ascii":      {build.New(build.Entry{PCR: 10, Template: "ima\x80ng"}).Bytes(), reason.IMAEncoding},
		"name_with_space":     {build.New(build.Entry{PCR: 10, Template: "ima ng"}).Bytes(), reason.IMAEncoding},
		"name_past_the_end":   {good[:30], reason.IMATruncated},
		"data_of_2_31":        {put32(good, 34, 1<<31), reason.IMAEncoding},
		"data_of_over_a_mib":  {put32(good, 34, 1<<20+1), reason.IMAEncoding},
		"data_past_the_end":   {put32(good, 34, 1<<20), reason.IMATruncated},
		"one_byte_missing":    {good[:len(good)-1], reason.IMATruncated},
		"one_byte_more":       {append(bytes.Clone(good), 10), reason.IMATruncated},
		"head_cut":            {good[:27], reason.IMATruncated},
		"length_cut":          {good[:36], reason.IMATruncated},
		"legacy_path_of_256":  {put32(legacy, 51, 256), reason.IMAEncoding},
		"legacy_path_cut":     {legacy[:len(legacy)-1], reason.IMATruncated},
		"legacy_length_cut":   {legacy[:54], reason.IMATruncated},
		"second_entry_broken": {append(machine(0).Bytes(), make([]byte, 28)...), reason.IMAEncoding},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := ima.Parse(tc.raw)
			wantCode(t, err, tc.code)
		})
	}
	for cut := 1; cut < len(good); cut++ {
		if list, err := ima.Parse(good[:cut]); err == nil && list.Len() == 3 {
			t.Fatalf("%d of %d bytes are the whole list", cut, len(good))
		}
	}
	if _, err := ima.Parse(name(255)); err != nil {
		t.Errorf("a name of 255 bytes: %v", err)
	}
	whole := build.New(build.Entry{PCR: 10, Template: "x", Data: make([]byte, 1<<20)}).Bytes()
	if _, err := ima.Parse(whole); err != nil {
		t.Errorf("a MiB of data: %v", err)
	}
	wantNumber(t, append(machine(1).Bytes(), 1, 2, 3), "entry 2")
	for what, e := range map[string]build.Entry{
		"a_name_with_a_tilde":   {PCR: 10, Template: "x~"},
		"a_legacy_path_of_none": build.Measured("ima", make([]byte, 20)),
		"a_legacy_path_of_255":  build.Measured("ima", append(make([]byte, 20), strings.Repeat("x", 255)...)),
	} {
		if list, err := ima.Parse(build.New(e).Bytes()); err != nil || list.Len() != 1 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestLegacyPadding: the path is filled up with zeros, not with what another one
// left behind.
func TestLegacyPadding(t *testing.T) {
	long := build.Measured("ima", append(bytes.Repeat([]byte{7}, 20), strings.Repeat("x", 255)...))
	short := build.Measured("ima", append(bytes.Repeat([]byte{8}, 20), "/a"...))
	list, err := ima.Parse(build.New(long, short, long).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := list.Appraise(); err != nil {
		t.Error(err)
	}
}

func wantNumber(t *testing.T, raw []byte, number string) {
	t.Helper()
	if _, err := ima.Parse(raw); err == nil || !strings.Contains(err.Error(), number+":") {
		t.Errorf("%v does not name %s", err, number)
	}
}

// TestAppraise: the first offence of a list by itself, in the order of the checks.
func TestAppraise(t *testing.T) {
	digest, zero := build.Digest([]byte("x")), make([]byte, 32)
	for what, tc := range map[string]struct {
		entry build.Entry
		code  reason.Code
	}{
		"good":                 {build.File("/bin/sh", nil), ""},
		"ngv2":                 {build.Measured("ima-ngv2", build.Fields(append([]byte("ima:"), digest...), build.Name("/a"))), ""},
		"verity":               {build.Measured("ima-sigv2", build.Fields(append([]byte("verity:"), digest...), build.Name("/a"), nil)), ""},
		"modsig":               {build.Measured("ima-modsig", build.Fields(digest, build.Name("/a"), nil, digest, []byte("pkcs7"))), ""},
		"evm":                  {build.Measured("evm-sig", build.Fields(digest, build.Name("/a"), nil, nil, nil, nil, zero[:4], zero[:4], zero[:2])), ""},
		"buffer":               {build.Buffer("kexec-cmdline", []byte("ro")), ""},
		"legacy":               {build.Measured("ima", append(bytes.Repeat([]byte{7}, 20), "/bin/sh"...)), ""},
		"path_of_dots":         {file(digest, build.Name("...")), ""},
		"unknown_of_6_letters": {file(append([]byte("unknow:\x00"), zero...), build.Name("/a")), reason.IMATemplateUnknown},
		"digest_no_colon":      {file([]byte("hello"), build.Name("/a")), reason.IMAEncoding},
		"nul_before_name":      {file(append([]byte("\x00sha256:\x00"), zero...), build.Name("/a")), reason.IMAEncoding},
		"nul_first_in_path":    {file(digest, build.Name("\x00/a")), reason.IMAEncoding},
		"newline_first":        {file(digest, build.Name("\n/a")), reason.IMAEncoding},
		"unknown_and_newline":  {file(append([]byte("unknown:\x00"), zero...), build.Name("/a\n")), reason.IMAEncoding},
		"sha1":                 {file(append([]byte("sha1:\x00"), zero[:20]...), build.Name("/a")), ""},
		"pcr_11":               {build.Entry{PCR: 11, Template: "nobody", Digest: [20]byte{1}}, reason.IMAPCR},
		"unknown_template":     {build.Entry{PCR: 10, Template: "d-ng|sig", Digest: [20]byte{1}}, reason.IMATemplateUnknown},
		"unknown_violation":    {build.Entry{PCR: 10, Template: "d-ng|sig"}, reason.IMATemplateUnknown},
		"unknown_algorithm":    {file(append([]byte("unknown:\x00"), zero...), build.Name("/a")), reason.IMATemplateUnknown},
		"violation":            {build.Violation("/a"), reason.IMAViolation},
		"zero_with_real_data":  {build.Entry{PCR: 10, Template: "ima-ng", Data: build.File("/a", nil).Data}, reason.IMAViolation},
		"other_digest":         {build.Entry{PCR: 10, Template: "ima-ng", Data: build.File("/a", nil).Data, Digest: [20]byte{1}}, reason.IMADigest},
		"newline":              {file(digest, build.Name("/a\nb")), reason.IMAEncoding},
		"nul_in_path":          {file(digest, build.Name("/a\x00b")), reason.IMAEncoding},
		"path_not_closed":      {file(digest, []byte("/a")), reason.IMAEncoding},
		"path_empty":           {file(digest, build.Name("")), reason.IMAEncoding},
		"path_of_no_bytes":     {file(digest, nil), reason.IMAEncoding},
		"legacy_path_empty":    {build.Measured("ima", make([]byte, 20)), reason.IMAEncoding},
		"legacy_newline":       {build.Measured("ima", append(make([]byte, 20), "/a\n"...)), reason.IMAEncoding},
		"no_fields":            {file(), reason.IMAEncoding},
		"one_field_too_few":    {file(digest), reason.IMAEncoding},
		"one_field_too_many":   {file(digest, build.Name("/a"), nil), reason.IMAEncoding},
		"field_past_the_end":   {build.Measured("ima-ng", []byte{9, 0, 0, 0, 1}), reason.IMAEncoding},
		"field_of_4_gib":       {build.Measured("ima-ng", []byte{0xff, 0xff, 0xff, 0xff, 1}), reason.IMAEncoding},
		"digest_without_name":  {file(zero, build.Name("/a")), reason.IMAEncoding},
		"digest_of_no_name":    {file(append([]byte(":\x00"), zero...), build.Name("/a")), reason.IMAEncoding},
		"digest_too_short":     {file(digest[:len(digest)-1], build.Name("/a")), reason.IMAEncoding},
		"digest_too_long":      {file(append(bytes.Clone(digest), 0), build.Name("/a")), reason.IMAEncoding},
		"nul_in_algorithm":     {file(append([]byte("sha\x00256:\x00"), zero...), build.Name("/a")), reason.IMAEncoding},
		"type_unknown":         {build.Measured("ima-ngv2", build.Fields(append([]byte("evm:"), digest...), build.Name("/a"))), reason.IMAEncoding},
		"type_missing":         {build.Measured("ima-ngv2", build.Fields(digest, build.Name("/a"))), reason.IMAEncoding},
		"type_too_many":        {file(append([]byte("ima:"), digest...), build.Name("/a")), reason.IMATemplateUnknown},
	} {
		t.Run(what, func(t *testing.T) {
			list, err := ima.Parse(build.New(build.File("/first", nil), tc.entry, build.File("/last", nil)).Bytes())
			if err != nil {
				t.Fatal(err)
			}
			err = list.Appraise()
			wantCode(t, err, tc.code)
			if err != nil && !strings.Contains(err.Error(), "entry 1:") {
				t.Errorf("%v does not name entry 1", err)
			}
		})
	}
}

// TestAppraiseOrder: structure of the whole list before any record is judged.
func TestAppraiseOrder(t *testing.T) {
	list, err := ima.Parse(build.New(build.Violation("/a"), build.Entry{PCR: 4, Template: "x"}, file()).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, list.Appraise(), reason.IMAEncoding)
}

// TestReplay in each bank and both ways of extending; FF for a violation.
func TestReplay(t *testing.T) {
	l := build.New(build.Aggregate(nil), build.Measured("ima", append(make([]byte, 20), "/bin/sh"...)), build.Violation("/a"), build.Entry{PCR: 3, Template: "d|n", Digest: [20]byte{7}, Data: []byte("x")})
	list, err := ima.Parse(l.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	r := list.Replay(ima.SHA256)
	if want := build.PCR10(l.Extends()); !bytes.Equal(r.PCR10, want) {
		t.Errorf("%x, want %x", r.PCR10, want)
	}
	if want := build.PCR10(l.PaddedExtends()); !bytes.Equal(r.Padded, want) {
		t.Errorf("padded: %x, want %x", r.Padded, want)
	}
	if r.Entries != 4 || r.Violations != 1 {
		t.Errorf("%d entries, %d violations", r.Entries, r.Violations)
	}
	one, err := ima.Parse(build.New(build.File("/a", nil)).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	td := sha512.Sum384(build.File("/a", nil).Data)
	want := sha512.Sum384(append(make([]byte, 48), td[:]...))
	if r := one.Replay(ima.SHA384); !bytes.Equal(r.PCR10, want[:]) {
		t.Errorf("sha384: %x", r.PCR10)
	}
	own := build.File("/a", nil).Digest
	wantSHA1 := sha1.Sum(append(make([]byte, 20), own[:]...))
	if got := one.Replay(ima.SHA1).PCR10; !bytes.Equal(got, one.Replay(ima.SHA1).Padded) || !bytes.Equal(got, wantSHA1[:]) {
		t.Errorf("sha1: %s", hex.EncodeToString(got))
	}
	if r := one.Replay("md5"); r.PCR10 != nil || r.Entries != 0 {
		t.Errorf("an unknown bank gives %v", r)
	}
	if ima.Bank("md5").Size() != 0 || ima.SHA256.Size() != sha256.Size {
		t.Error("sizes of banks")
	}
}

// TestSkip finds the byte where an entry starts.
func TestSkip(t *testing.T) {
	raw := machine(5).Bytes()
	rest, ok := ima.Skip(raw, 4)
	if list, err := ima.Parse(rest); !ok || err != nil || list.Len() != 2 {
		t.Fatalf("%d entries left (%v)", list.Len(), err)
	}
	if rest, ok := ima.Skip(raw, 6); !ok || len(rest) != 0 {
		t.Errorf("%d bytes behind the last entry", len(rest))
	}
	if _, ok := ima.Skip(raw, 7); ok {
		t.Error("more entries were skipped than there are")
	}
}
