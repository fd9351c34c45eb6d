package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/policy"
)

// BenchmarkDecide finds the zone of an honest host. With more zones the one that
// it earns is the last that is tried.
func BenchmarkDecide(b *testing.B) {
	for _, zones := range []int{1, 10, 100} {
		docs := []string{zonePayments, referenceDebian}
		for i := 1; i < zones; i++ {
			other := strings.NewReplacer("name: payments", fmt.Sprintf("name: other-%d", i), "priority: 10", "priority: 20",
				"rack-7", fmt.Sprintf("row-%d", i), ", {ek_manufacturer: STM, format: tpm2}", "")
			docs = append(docs, other.Replace(zonePayments))
		}
		b.Run(fmt.Sprintf("zones=%d", zones), func(b *testing.B) {
			set, problems := policy.Load(manyFiles(docs))
			if len(problems) > 0 {
				b.Fatal(problems[0])
			}
			in, _ := good()
			if d := set.Decide(in); d.Zone != "payments" {
				b.Fatalf("zone %q, %s", d.Zone, codes(d))
			}
			b.ReportAllocs()
			for b.Loop() {
				set.Decide(in)
			}
		})
	}
}

func manyFiles(docs []string) []policy.File {
	var out []policy.File
	for i, d := range docs {
		out = append(out, policy.File{Name: fmt.Sprintf("%d.yaml", i), Bytes: []byte(d)})
	}
	return out
}
