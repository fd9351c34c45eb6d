package advisory

import (
	"strings"
	"testing"
)

func version(t *testing.T, s string) Version {
	t.Helper()
	v, err := ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestParseVersion(t *testing.T) {
	for s, want := range map[string]Version{
		"7": 7 << 48, "7.85": 7<<48 | 85<<32, "1.3.2.8": 1<<48 | 3<<32 | 2<<16 | 8, "65535.65535.65535.65535": 1<<64 - 1,
		"0": 0, "0x0007005500110002": 7<<48 | 85<<32 | 17<<16 | 2,
	} {
		if got, err := ParseVersion(s); err != nil || got != want {
			t.Errorf("%s: %x, %v; want %x", s, uint64(got), err, uint64(want))
		}
		if again, err := ParseVersion(want.String()); err != nil || again != want {
			t.Errorf("%s does not read back", want)
		}
	}
	for _, s := range []string{"", ".", "7.", "7..1", "7.65536", "-1", "7.85.0.0.0", "seven", "0x7", "0x00070055001100021", "0x000700550011000g", "7 .85"} {
		if v, err := ParseVersion(s); err == nil {
			t.Errorf("%q was read as %s", s, v)
		}
	}
}

// TestLookup stands for the table: versions just inside and just outside of what
// each source says.
func TestLookup(t *testing.T) {
	for _, c := range []struct{ maker, kind, firmware, want string }{
		{"IFX", "", "3.99", ""},
		{"IFX", "", "4.0", "CVE-2017-15361"},
		{"IFX", "", "4.33.65535", "CVE-2017-15361"},
		{"IFX", "", "4.34", ""},
		{"IFX", "", "4.40", "CVE-2017-15361"},
		{"IFX", "", "4.43", ""},
		{"IFX", "", "5.61.9.9", "CVE-2017-15361"},
		{"IFX", "", "5.62", ""},
		{"IFX", "", "6.42", "CVE-2017-15361"},
		{"IFX", "", "6.43", ""},
		{"IFX", "", "7.61", "CVE-2017-15361"},
		{"IFX", "", "7.62", ""},
		{"IFX", "", "7.85", ""},
		{"IFX", "", "133.32", "CVE-2017-15361"},
		{"IFX", "", "133.33", ""},
		{"IFX", "discrete", "7.85", "CVE-2018-6622"},
		{"IFX", "discrete", "7.61", "CVE-2017-15361 CVE-2018-6622"},
		{"INTC", "firmware", "10.0", ""},
		{"INTC", "firmware", "11.8.50.3399", "CVE-2019-11090"},
		{"INTC", "firmware", "11.8.65", ""},
		{"INTC", "firmware", "11.11.64", "CVE-2019-11090"},
		{"INTC", "firmware", "11.22.70", ""},
		{"INTC", "firmware", "12.0.34", "CVE-2019-11090"},
		{"INTC", "firmware", "12.0.35", ""},
		{"INTC", "firmware", "14.0.9", "CVE-2019-11090"},
		{"INTC", "firmware", "13.0.1200", "CVE-2019-11090"},
		{"INTC", "firmware", "13.0.1201", ""},
		{"INTC", "firmware", "3.1.64", "CVE-2019-11090"},
		{"INTC", "firmware", "4.0.15", ""},
		{"INTC", "firmware", "600.18", ""},
		{"STM", "", "71.12", "CVE-2019-16863"},
		{"STM", "", "71.16", ""},
		{"STM", "", "73.4.17568.4452", "CVE-2019-16863"},
		{"STM", "", "73.20", ""},
		{"STM", "", "73.64", ""},
		{"STM", "", "74.9", "CVE-2019-16863"},
		{"STM", "", "74.20", ""},
		{"STM", "", "1.258", ""},
		{"NTC", "", "1.3.2.8", "CVE-2023-1017"},
		{"NTC", "", "1.3.2.20", ""},
		{"NTC", "", "7.2.0.1", "CVE-2020-25082 CVE-2025-2884 CVE-2026-6923"},
		{"NTC", "", "7.2.2.0", "CVE-2025-2884 CVE-2026-6923"},
		{"NTC", "", "7.2.4.0", "CVE-2025-2884"},
		{"NTC", "", "7.2.4.1", ""},
		{"AMD", "firmware", "3.58.0.5", "FAULTPM"},
		{"AMD", "unknown", "3.58.0.5", ""},
		{"", "discrete", "7.61", ""},
		{"id:00001014", "software", "8217.4131.22.13878", ""},
	} {
		var ids []string
		for _, a := range Lookup(c.maker, c.kind, version(t, c.firmware)) {
			ids = append(ids, a.ID)
		}
		if got := strings.Join(ids, " "); got != c.want {
			t.Errorf("%s %s %s: %q, want %q", c.maker, c.kind, c.firmware, got, c.want)
		}
	}
}

func TestBlocks(t *testing.T) {
	if (Advisory{Tier: 1}).Blocks(1) || !(Advisory{Tier: 1}).Blocks(2) || !(Advisory{Deny: true, Tier: 4}).Blocks(0) {
		t.Error("a cap leaves the tiers up to it, a denial none")
	}
}

func TestTable(t *testing.T) {
	rows, err := table()
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range rows {
		for i, a := range list {
			for _, b := range list[:i] {
				if a.ID == b.ID && (a.open || b.before > a.from) && (b.open || a.before > b.from) {
					t.Errorf("%s: two ranges share a version", a.ID)
				}
			}
		}
	}
	for _, id := range []string{"CVE-2017-15361", "CVE-2018-6622", "CVE-2019-11090", "CVE-2019-16863", "CVE-2023-1017", "CVE-2025-2884", "FAULTPM"} {
		if !Known(id) {
			t.Errorf("%s is not in the table", id)
		}
	}
	if Known("CVE-1999-0001") {
		t.Error("an advisory that nobody wrote is known")
	}
}

func TestParseRefuses(t *testing.T) {
	good := "CVE-1\tABC\tdiscrete\t1.0\t2.0\tcap 2\thttps://example.org\tbad"
	if rows, err := parse(tableHead + "\n" + good + "\n"); err != nil || len(rows["ABC"]) != 1 || rows["ABC"][0].Tier != 2 || rows["ABC"][0].kind != "discrete" {
		t.Fatalf("%+v, %v", rows, err)
	}
	if rows, err := parse(tableHead + "\n" + strings.Replace(good, "cap 2", "cap 0", 1) + "\n"); err != nil || rows["ABC"][0].Tier != 0 {
		t.Errorf("a cap to tier 0: %v", err)
	}
	for name, change := range map[string][2]string{
		"a field less":     {"\tbad", ""},
		"no id":            {"CVE-1", ""},
		"no maker":         {"ABC", ""},
		"no summary":       {"bad", ""},
		"source":           {"https://", "see "},
		"from":             {"1.0", "one"},
		"before":           {"2.0", "two"},
		"an empty range":   {"2.0", "1.0"},
		"verdict":          {"cap 2", "bad"},
		"no tier":          {"cap 2", "cap"},
		"a tier too high":  {"cap 2", "cap 4"},
		"a tier below all": {"cap 2", "cap -1"},
		"a bare tier":      {"cap 2", "2"},
		"a tier in words":  {"cap 2", "cap two"},
	} {
		if _, err := parse(tableHead + "\n" + strings.Replace(good, change[0], change[1], 1) + "\n"); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := parse(good + "\n"); err == nil {
		t.Error("a table without its head was taken")
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("7.85")
	f.Add("0x0007005500110002")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVersion(s)
		if err != nil {
			return
		}
		if again, err := ParseVersion(v.String()); err != nil || again != v {
			t.Errorf("%q is %s, which reads as %s", s, v, again)
		}
	})
}
