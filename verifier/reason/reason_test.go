package reason_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestReleasedCodesStay fails when a released code is renamed, removed or
// changes class or status: alerts and policies refer to them. New codes are
// added to the file in the same commit.
func TestReleasedCodesStay(t *testing.T) {
	golden, err := os.ReadFile("testdata/codes.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, i := range reason.All() {
		fmt.Fprintf(&got, "%s %s %d\n", i.Code, i.Class, i.HTTP)
	}
	if got.String() != string(golden) {
		t.Errorf("codes differ from testdata/codes.txt; released codes are only ever added to")
	}
}

func TestCodesAreWellFormedAndSorted(t *testing.T) {
	form := regexp.MustCompile(`^([a-z0-9]+(_[a-z0-9]+)*)(\.[a-z0-9]+(_[a-z0-9]+)*)*$`)
	var names []string
	for _, i := range reason.All() {
		if !form.MatchString(string(i.Code)) {
			t.Errorf("%q is not <area>.<subject> in lower snake case", i.Code)
		}
		if i.Meaning == "" {
			t.Errorf("%s has no meaning", i.Code)
		}
		if (i.Class == reason.Event) != (i.HTTP == 200) {
			t.Errorf("%s: class %s with status %d", i.Code, i.Class, i.HTTP)
		}
		names = append(names, string(i.Code))
	}
	if !slices.IsSorted(names) {
		t.Error("codes are not in alphabetical order")
	}
	if len(slices.Compact(names)) != len(names) {
		t.Error("a code stands twice")
	}
}

func TestUnknownErrorIsInternal(t *testing.T) {
	if got := reason.Of(errors.New("disk on fire")); got != reason.Internal {
		t.Errorf("Of(foreign error) = %q", got)
	}
	if got := reason.Of(nil); got != "" {
		t.Errorf("Of(nil) = %q", got)
	}
	if i := reason.Lookup("no.such_code"); i.HTTP != 500 {
		t.Errorf("unknown code has status %d", i.HTTP)
	}
}

func TestCauseStaysPrivate(t *testing.T) {
	cause := errors.New("the secret path")
	err := fmt.Errorf("redeem: %w", reason.Wrap(reason.ChallengeInvalid, "token does not open", cause))
	if !errors.Is(err, cause) || !errors.Is(err, reason.New(reason.ChallengeInvalid, "")) {
		t.Error("cause or code is not found in the chain")
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("error text shows the cause: %v", err)
	}
	if reason.Detail(err) != "token does not open" {
		t.Errorf("detail = %q", reason.Detail(err))
	}
}
