package store_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/store/storetest"
)

func TestSmoke(t *testing.T) {
	db := storetest.New(t)
	s := db.Open(t, nil)
	d, err := s.ClockSkew(t.Context())
	t.Log(d, err)
}
