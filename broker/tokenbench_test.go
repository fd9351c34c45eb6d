package broker_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/broker"
)

// BenchmarkToken seals and opens the token of a renewal.
func BenchmarkToken(b *testing.B) {
	s := broker.NewTokenSealer(cluster)
	token, err := s.Seal(issued)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Seal(issued); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := s.Open(token, issued); err != nil {
				b.Fatal(err)
			}
		}
	})
}
