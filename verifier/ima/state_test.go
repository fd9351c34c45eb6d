package ima_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/ima"
)

// TestStateText: what was written is read, and nothing that looks like it.
func TestStateText(t *testing.T) {
	l := machine(3)
	a := attest(t, l.Bytes(), quoted(l.Extends()))
	j, err := a.Judge(compile(t, ima.Allow{}))
	if err != nil || j.Denied != 3 {
		t.Fatalf("%+v (%v)", j, err)
	}
	state := a.State(j)
	text, err := state.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var again ima.State
	if err := again.UnmarshalText(text); err != nil || again != state || !again.Known() || again.Entries() != 4 || again.Boot() != boot {
		t.Fatalf("%+v (%v)", again, err)
	}
	if j, err := attestAfter(t, again, quoted(l.Extends())).Judge(compile(t, ima.Allow{})); err != nil || j.Denied != 3 {
		t.Errorf("%+v (%v)", j, err)
	}
	s := string(text)
	for what, bad := range map[string]string{
		"no_json":      s[1:],
		"more":         s + " ",
		"other_case":   strings.Replace(s, "entries", "Entries", 1),
		"unknown":      strings.Replace(s, "{", `{"x":1,`, 1),
		"no_bank":      `{"reset_count":1,"restart_count":0,"entries":"1","bank":"sm3","extend":"bank","pcr":"","aggregate":"","violations":"0"}`,
		"bank":         strings.Replace(s, `"bank":"sha256"`, `"bank":"sm3"`, 1),
		"longer_bank":  strings.Replace(s, `"bank":"sha256"`, `"bank":"sha384"`, 1),
		"extend":       strings.Replace(s, `"extend":"bank"`, `"extend":""`, 1),
		"value":        strings.Replace(s, `"pcr":"`, `"pcr":"z`, 1),
		"value_short":  strings.Replace(s, `"pcr":"`, `"pcr":"","x":"`, 1),
		"aggregate":    strings.Replace(s, `"aggregate":"`, `"aggregate":"00`, 1),
		"too_long":     s + strings.Repeat(" ", 16<<10),
		"spelled_else": strings.Replace(s, `"entries":"4"`, `"entries":"04"`, 1),
	} {
		if bad == s {
			t.Errorf("%s changes nothing", what)
		}
		got := state
		err := got.UnmarshalText([]byte(bad))
		if err == nil || got.Known() {
			t.Errorf("%s was read as %+v", what, got)
		}
		if _, syntax := errors.AsType[*json.SyntaxError](err); syntax != (what == "no_json" || what == "more_members") {
			t.Errorf("%s: %v", what, err)
		}
		if strings.Contains(err.Error(), "at most") != (what == "too_long") {
			t.Errorf("%s: %v", what, err)
		}
	}
	var none ima.State
	if text, err := none.MarshalText(); err != nil || len(text) != 0 {
		t.Errorf("no state is written as %q (%v)", text, err)
	}
	if err := again.UnmarshalText(nil); err != nil || again.Known() || again.Rules() != "" {
		t.Errorf("nothing is read as %+v (%v)", again, err)
	}
}
