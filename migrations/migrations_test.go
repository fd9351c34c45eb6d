package migrations_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/zonebroker/zonebroker/migrations"
)

func applied(t *testing.T) []migrations.Applied {
	t.Helper()
	all, err := migrations.All()
	if err != nil {
		t.Fatal(err)
	}
	var out []migrations.Applied
	for _, f := range all {
		out = append(out, migrations.Applied{Version: f.Version, Name: f.Name, SHA256: f.SHA256[:], WorksWith: f.WorksWith})
	}
	return out
}

// TestCompare: a newer schema stops a program, unless it declares that programs
// of this one go on working.
func TestCompare(t *testing.T) {
	all := applied(t)
	last := all[len(all)-1].Version
	next := func(worksWith int64) []migrations.Applied {
		return append(slices.Clone(all), migrations.Applied{Version: last + 1, Name: "next.sql", WorksWith: worksWith})
	}
	for name, tc := range map[string]struct {
		have []migrations.Applied
		want any
	}{
		"same":                           {all, nil},
		"newer":                          {next(0), &migrations.NewerError{}},
		"newer, compatible":              {next(last), nil},
		"newer, compatible with older":   {next(last - 1), nil},
		"newer, compatible with a later": {next(last + 1), &migrations.NewerError{}},
		"newer behind a compatible one":  {append(next(last), migrations.Applied{Version: last + 2}), &migrations.NewerError{}},
		"compatible, but one is missing": {slices.Delete(next(last), 1, 2), &migrations.OlderError{}},
		"older":                          {all[:len(all)-1], &migrations.OlderError{}},
		"none":                           {nil, &migrations.OlderError{}},
		"changed":                        {append(slices.Clone(all[:2]), migrations.Applied{Version: 3, SHA256: []byte("x")}), &migrations.ChangedError{}},
	} {
		err := migrations.Compare(tc.have)
		_, newer := errors.AsType[*migrations.NewerError](err)
		_, older := errors.AsType[*migrations.OlderError](err)
		_, changed := errors.AsType[*migrations.ChangedError](err)
		ok := err == nil
		switch tc.want.(type) {
		case *migrations.NewerError:
			ok = newer
		case *migrations.OlderError:
			ok = older
		case *migrations.ChangedError:
			ok = changed
		}
		if !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDeclared: schema 4 lets the replicas of the release before run and restart.
func TestDeclared(t *testing.T) {
	for _, a := range applied(t) {
		if want := map[int64]int64{4: 3}[a.Version]; a.WorksWith != want {
			t.Errorf("%s works with programs of schema %d, want %d", a.Name, a.WorksWith, want)
		}
	}
}
