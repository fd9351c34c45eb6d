package ledger_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

func aPlace() ledger.Place {
	return ledger.Place{RecordedAt: time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC), Index: 1 << 40, LogID: "main", Ord: 7}
}

func TestPlaceSurvivesItsCursor(t *testing.T) {
	for _, p := range []ledger.Place{{}, aPlace(), {RecordedAt: time.Unix(0, 0).UTC(), LogID: "x"}} {
		got, err := ledger.ParsePlace(p.String())
		if err != nil || got != p || got.String() != p.String() {
			t.Errorf("%+v became %+v, %v", p, got, err)
		}
	}
	if c := aPlace().String(); strings.Contains(c, "main") || strings.Trim(c, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		t.Errorf("cursor %q", c)
	}
}

func TestForeignCursorsAreRefused(t *testing.T) {
	change := func(f func(raw []byte) []byte) string {
		raw, _ := base64.RawURLEncoding.DecodeString(aPlace().String())
		return base64.RawURLEncoding.EncodeToString(f(raw))
	}
	set := func(i int, b byte) string {
		return change(func(raw []byte) []byte { raw[i] = b; return raw })
	}
	for name, text := range map[string]string{
		"number": "7", "words": "select now()", "padded": aPlace().String() + "=", "version": set(0, 2),
		"time": set(1, 0xff), "index": set(9, 0x80), "ord": set(17, 0x80), "nul": set(19, 0), "not_text": set(19, 0xff),
		"cut":    change(func(raw []byte) []byte { return raw[:19] }),
		"long":   change(func(raw []byte) []byte { return append(raw, make([]byte, 300)...) }),
		"spaces": " " + aPlace().String(),
	} {
		if p, err := ledger.ParsePlace(text); err == nil {
			t.Errorf("%s: %q is %+v", name, text, p)
		}
	}
}
