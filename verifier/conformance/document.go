package conformance

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/snp"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// dated reads what nearly every judge begins with: the file of the row, and when
// it is judged.
func (c *testcase) dated() ([]byte, time.Time, error) {
	at, err := c.time()
	if err != nil {
		return nil, at, err
	}
	raw, err := c.open(c.row.Path)
	return raw, at, err
}

// anchored takes the trust that a format makes of the files of a row. Roots in
// which nothing is an anchor are a case like any other: nothing chains to them.
// What does not parse is a mistake of the manifest.
func anchored[T any](trust T, err error) (T, error) {
	var none T
	switch {
	case errors.Is(err, x509chain.ErrNoAnchor), errors.Is(err, snp.ErrNoIssuer):
		return none, nil
	case err != nil:
		return none, bad("roots: %v", err)
	}
	return trust, nil
}

// refuseHazards is default policy: the first hazard refuses.
func refuseHazards(f document.Facts) error {
	if len(f.Hazards) == 0 {
		return nil
	}
	return reason.New(f.Hazards[0].Code, f.Hazards[0].Detail)
}

// admittedBy are the keys of a context that say what an operator admitted, each
// with the kinds of owners that it may stand for.
var admittedBy = map[string][]string{
	"account": {document.OwnerAWSAccount, document.OwnerAzureSubscription, document.OwnerAzureTenant},
	"project": {document.OwnerGCPProject},
}

// admits refuses a document of another account or project than the row says is
// admitted, or of none. Owners are written in lower case, of what has two spellings,
// so that a row may have either of an account.
func (c *testcase) admits(f document.Facts) error {
	for key, kinds := range admittedBy {
		want := c.get(key)
		if want == "" {
			continue
		}
		if !slices.ContainsFunc(f.Owners, func(o document.Owner) bool {
			return slices.Contains(kinds, o.Kind) && (o.Value == want || key == "account" && strings.EqualFold(o.Value, want))
		}) {
			return reason.Newf(reason.NodeNotAdmitted, "another %s than the admitted one", key)
		}
	}
	return nil
}
