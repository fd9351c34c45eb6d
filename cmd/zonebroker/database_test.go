package main

import (
	"log/slog"
	"strings"
	"testing"
)

func TestPoolerWantsAnOwner(t *testing.T) {
	const server = "postgres://zb_writer@db/zonebroker"
	for name, c := range map[string]struct {
		cfg  config
		want string // in the error; "" for none
	}{
		"no_owner": {config{Database: server, DatabasePooler: true}, "needs database_owner"},
		"private":  {config{Database: "embedded:pg", DatabasePooler: true}, "has no pooler"},
		"owner":    {config{Database: server, DatabaseOwner: "postgres://admin@db/zonebroker", DatabasePooler: true}, ""},
		"none":     {config{Database: server}, ""},
	} {
		db, err := openDatabase(t.Context(), t.TempDir(), c.cfg, nil, slog.New(slog.DiscardHandler))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want == "" && db.private != nil:
			t.Errorf("%s: a Postgres was started", name)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v does not say %q", name, err, c.want)
		}
	}
}
