package celog_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/celog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func booted() *build.Userspace { return build.Booted("ready", "0123456789abcdef0123456789abcdef") }

// TestParse reads what systemd writes, as a sequence and a line each.
func TestParse(t *testing.T) {
	u := booted()
	raw := u.Bytes()
	for name, raw := range map[string][]byte{
		"sequence":         raw,
		"lines":            bytes.ReplaceAll(raw, []byte{0x1e}, nil),
		"without newlines": bytes.ReplaceAll(raw, []byte("\n"), nil),
		"upper case":       bytes.ReplaceAll(raw, []byte(`"sha256"`), []byte(`"SHA256"`)),
		"with a number":    bytes.ReplaceAll(raw, []byte(`{"pcr"`), []byte(`{"recnum":7,"pcr"`)),
		"more content":     bytes.ReplaceAll(raw, []byte(`"content":{`), []byte(`"content":{"later":{"a":[1,{"b":null}]},`)),
		"blanks":           bytes.ReplaceAll(raw, []byte("\n"), []byte(" \r\n\n")),
	} {
		t.Run(name, func(t *testing.T) {
			l, err := celog.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if len(l.Events()) != len(u.Extends()) {
				t.Fatalf("%d events, want %d", len(l.Events()), len(u.Extends()))
			}
			for i, e := range l.Events() {
				x := u.Extends()[i]
				if e.Line != i+1 || e.PCR != x.PCR || !bytes.Equal(e.In(0x000b), x.SHA256[:]) || !bytes.Equal(e.In(0x0004), x.SHA1[:]) || e.In(0x000d) != nil {
					t.Errorf("event %d: %+v", i, e)
				}
			}
			if e := l.Events()[0]; e.Type != "phase" || e.Text != "enter-initrd" {
				t.Errorf("first event: %+v", e)
			}
		})
	}
	if l, err := celog.Parse(nil); err != nil || len(l.Events()) != 0 {
		t.Errorf("no bytes: %v", err)
	}
	nv := bytes.Replace(raw, []byte(`{"pcr":11`), []byte(`{"nv_index":30474752`), 1)
	if l, err := celog.Parse(nv); err != nil || l.Events()[0].PCR != -1 {
		t.Errorf("an NV index: %v", err)
	}
}

// TestParseRefuses names what is wrong, and in which record.
func TestParseRefuses(t *testing.T) {
	one := string(booted().Bytes())
	one, _, _ = strings.Cut(one, "\n")
	one = strings.TrimPrefix(one, "\x1e")
	edit := func(from, to string) string { return strings.Replace(one, from, to, 1) }
	digest := one[strings.Index(one, `{"hashAlg":"sha256"`):]
	digest = digest[:strings.Index(digest, "}")+1]
	for name, c := range map[string]struct {
		raw  string
		want reason.Code
	}{
		"cut":                     {one[:len(one)-1], reason.EventLogTruncated},
		"cut in a string":         {one[:20], reason.EventLogTruncated},
		"no object":               {"7", reason.RequestMalformed},
		"two values":              {one + " {}", reason.RequestMalformed},
		"rubbish behind":          {one + "x", reason.RequestMalformed},
		"array":                   {"[" + one + "]", reason.RequestMalformed},
		"PCR 24":                  {edit(`"pcr":11`, `"pcr":24`), reason.EventLogPCRIndex},
		"PCR -1":                  {edit(`"pcr":11`, `"pcr":-1`), reason.RequestMalformed},
		"PCR 11.0":                {edit(`"pcr":11`, `"pcr":11.0`), reason.RequestMalformed},
		"PCR as text":             {edit(`"pcr":11`, `"pcr":"11"`), reason.RequestMalformed},
		"PCR twice":               {edit(`"pcr":11`, `"pcr":11,"pcr":11`), reason.RequestMalformed},
		"no PCR":                  {edit(`"pcr":11,`, ``), reason.RequestMalformed},
		"PCR and NV index":        {edit(`"pcr":11`, `"pcr":11,"nv_index":1`), reason.RequestMalformed},
		"unknown member":          {edit(`"pcr":11`, `"pcr":11,"x":1`), reason.RequestMalformed},
		"another case":            {edit(`"pcr":11`, `"PCR":11`), reason.RequestMalformed},
		"no digests":              {edit(one[strings.Index(one, `"digests"`):strings.Index(one, `"content_type"`)], ``), reason.EventLogDigests},
		"empty digests":           {edit(one[strings.Index(one, `[`):strings.Index(one, `]`)], `[`), reason.EventLogDigests},
		"digest twice":            {edit(digest, digest+","+digest), reason.EventLogDigests},
		"unknown algorithm":       {edit(`"sha256"`, `"md5"`), reason.EventLogDigests},
		"digest without name":     {edit(`"hashAlg":"sha256",`, ``), reason.EventLogDigests},
		"digest of 31 bytes":      {edit(digest, strings.Replace(digest, `"digest":"`, `"digest":"","digest2":"`, 1)), reason.RequestMalformed},
		"empty digest":            {edit(digest, `{"hashAlg":"sha256","digest":""}`), reason.EventLogDigests},
		"digest that is no hex":   {edit(digest, `{"hashAlg":"sha256","digest":"zz"}`), reason.EventLogDigests},
		"digest member twice":     {edit(digest, `{"hashAlg":"sha256","hashAlg":"sha256"}`), reason.RequestMalformed},
		"another content type":    {edit(`"systemd"`, `"ima"`), reason.RequestMalformed},
		"no content type":         {edit(`"content_type":"systemd",`, ``), reason.RequestMalformed},
		"content is text":         {edit(one[strings.Index(one, `"content":{`):], `"content":"x"}`), reason.RequestMalformed},
		"text is a number":        {edit(`"string":"enter-initrd"`, `"string":1`), reason.RequestMalformed},
		"text twice":              {edit(`"string":"enter-initrd"`, `"string":"a","string":"b"`), reason.RequestMalformed},
		"content nested 9 deep":   {edit(`"content":{`, `"content":{"a":`+strings.Repeat("[", 9)+strings.Repeat("]", 9)+`,`), reason.RequestMalformed},
		"content of 65 members":   {edit(`"content":{`, `"content":{`+members(65)), reason.RequestMalformed},
		"record of 65 KiB":        {edit(`"enter-initrd"`, `"`+strings.Repeat("x", 65<<10)+`"`), reason.RequestMalformed},
		"cut behind a comma":      {one[:strings.Index(one, `"digests"`)], reason.EventLogTruncated},
		"cut before a number":     {one[:strings.Index(one, `11,`)], reason.EventLogTruncated},
		"cut in what is skipped":  {one[:strings.Index(one, `"e6fd`)], reason.EventLogTruncated},
		"cut in a skipped list":   {one[:strings.Index(one, `"content":{`)] + `"content":{"a":[1,`, reason.EventLogTruncated},
		"cut between digests":     {one[:strings.Index(one, `},{"hashAlg"`)+2], reason.EventLogTruncated},
		"unknown member of text":  {edit(`"pcr":11`, `"pcr":11,"x":"y"`), reason.RequestMalformed},
		"hex and more":            {edit(digest, `{"hashAlg":"sha256","digest":"`+strings.Repeat("00", 32)+`zz"}`), reason.EventLogDigests},
		"algorithm is a number":   {edit(digest, strings.Replace(digest, `"sha256"`, `11`, 1)), reason.RequestMalformed},
		"record a byte too long":  {padded(one, 64<<10+1), reason.RequestMalformed},
		"second record is broken": {one + "\n" + one[:30], reason.EventLogTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := celog.Parse([]byte(c.raw))
			if reason.Of(err) != c.want {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			number := "1"
			if strings.HasPrefix(name, "second") {
				number = "2"
			}
			if !strings.Contains(reason.Detail(err), "userspace record "+number) {
				t.Errorf("the record is not named: %v", err)
			}
		})
	}
	for name, raw := range map[string]string{"record of 64 KiB": padded(one, 64<<10), "PCR 23": edit(`"pcr":11`, `"pcr":23`), "content of 64 members": edit(`"content":{`, `"content":{`+members(60))} {
		if _, err := celog.Parse([]byte(raw)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := celog.Parse([]byte(edit(`"content":{`, `"content":{"a":`+strings.Repeat("[", 8)+strings.Repeat("]", 8)+`,`))); err != nil {
		t.Errorf("nested 8 deep: %v", err)
	}
}

// padded makes the text of a record as long as the record has to be.
func padded(one string, size int) string {
	return strings.Replace(one, `"enter-initrd"`, `"enter-initrd`+strings.Repeat("x", size-len(one))+`"`, 1)
}

func members(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, `"m%d":1,`, i)
	}
	return out.String()
}

// FuzzParse: no panic, refusals have codes, and no more events than bytes allow.
func FuzzParse(f *testing.F) {
	f.Add(booted().Bytes())
	f.Add([]byte(`{"pcr":11,"digests":[],"content_type":"systemd"}`))
	f.Add([]byte("\x1e{\"nv_index\":1,\"digests\":[{\"hashAlg\":\"sha1\",\"digest\":\"" + strings.Repeat("00", 20) + "\"}],\"content_type\":\"systemd\",\"content\":{\"a\":[{}]}}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var l celog.Log
		var err error
		evidencetest.Bounded(t, len(raw), 64, func() { l, err = celog.Parse(raw) })
		if err != nil {
			if reason.Of(err) == reason.Internal {
				t.Fatalf("refusal without a code: %v", err)
			}
			return
		}
		if len(l.Events()) > len(raw)/40 {
			t.Fatalf("%d events in %d bytes", len(l.Events()), len(raw))
		}
		for _, e := range l.Events() {
			if e.PCR < -1 || e.PCR > 23 || len(e.Digests) == 0 {
				t.Fatalf("event %+v", e)
			}
		}
	})
}
