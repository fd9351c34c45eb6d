package conformance_test

import (
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// TestAdmissionComesLast: of an identity document that default policy refuses that
// is told, and not that its account is another one (test keys).
func TestAdmissionComesLast(t *testing.T) {
	aws := documenttest.NewEC2("eu-west-1", rowTime)
	good := documenttest.NewEC2Instance("eu-west-1", rowTime)
	old, sold := good, good
	old.Pending, sold.Products = rowTime.Add(-time.Hour), []string{"abcd1234"}
	files := map[string]string{"region.pem": string(aws.CertificatePEM())}
	for name, instance := range map[string]documenttest.EC2Instance{"good": good, "old": old, "sold": sold} {
		files[name] = string(aws.Document(instance))
	}
	for path, want := range map[string]string{"good": "node.not_admitted", "old": "ec2.pending_time", "sold": "ec2.marketplace"} {
		context := atNoon + ";region=eu-west-1;roots=region.pem;account=999999999999"
		if got := verdict(t, "ec2.iid", path, context, want, files); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
