package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// The catalogue is the list of a hundred forgeries that a TPM verifier has to
// see through (tpm.md, section 3). Each row is made from a good case by changing
// one field of it, and is judged by the shipped code: where the evidence alone
// decides by the verifier, else by a running broker.

// row is one row of the catalogue.
type row struct {
	number int
	name   string
	good   func(t *testing.T) *specimen // newRenewal where nil
	cases  []forgery
	broker []brokerForgery // judged by a running broker
}

// forgery changes one field of a good case. What follows is the wanted verdict.
type forgery struct {
	name   string
	change func(t *testing.T, s *specimen)
	want   reason.Code // "": good as well
	as     outcome
}

type outcome int

const (
	refused    outcome = iota
	noted              // accepted, with that code as an event
	claimed            // accepted, but what the log says there counts as a claim only
	unproved           // claimed, and a zone that wants Secure Boot refuses with the code
	unmeasured         // accepted, and a zone that wants files to be allowed refuses with the code
	outdated           // accepted, and a zone that wants a lowest firmware refuses with the code
)

func catalogue() []row {
	return slices.Concat(catalogueOfQuotes(), catalogueOfChallenges(), catalogueOfClocks(), catalogueOfSignatures(),
		catalogueOfKeys(), catalogueOfEndorsements(), catalogueOfLogs(), catalogueOfGrammars(), catalogueOfIMA(), catalogueOfCertified(), catalogueOfRequests())
}

func (r row) String() string { return fmt.Sprintf("tpm-%02d_%s", r.number, r.name) }

// TestCatalogue judges every forgery that the evidence alone gives away.
func TestCatalogue(t *testing.T) {
	cases := 0
	for _, r := range catalogue() {
		good := r.good
		if good == nil {
			good = newRenewal
		}
		for _, f := range r.cases {
			cases++
			t.Run(r.String()+"/"+f.name, func(t *testing.T) {
				s := good(t)
				if _, err := s.judge(); err != nil {
					t.Fatalf("the good case is refused: %v", err)
				}
				f.change(t, s)
				got, err := s.judge()
				f.check(t, good, s, got, err)
			})
		}
	}
	t.Logf("%d forgeries", cases)
}

func (f forgery) check(t *testing.T, good func(*testing.T) *specimen, s *specimen, got verifier.Appraisal, err error) {
	t.Helper()
	if f.as == refused || f.want == "" {
		if reason.Of(err) != f.want {
			t.Fatalf("code %q, want %q (%v)", reason.Of(err), f.want, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("refused, not accepted with %s: %v", f.want, err)
	}
	if f.as == noted {
		if !slices.Contains(got.Events(), f.want) {
			t.Errorf("events %q, want %q", got.Events(), f.want)
		}
		return
	}
	zone := map[outcome]func(*testing.T) *policy.Set{unmeasured: filesZone, outdated: firmwareZone}[f.as]
	if zone == nil {
		if !slices.ContainsFunc(got.Findings(), func(x verifier.Finding) bool { return x.Code == f.want }) {
			t.Errorf("no finding %s: %v", f.want, got.Findings())
		}
		zone = secureBootZone
	}
	if f.as == claimed {
		return
	}
	unchanged := good(t)
	honest, err := unchanged.judge()
	must(t, err)
	if d := decide(unchanged, honest, zone(t)); !d.Allow {
		t.Errorf("the zone refuses the good case: %v", d.Reasons)
	}
	if d := decide(s, got, zone(t)); d.Allow || !slices.ContainsFunc(d.Reasons, func(e *reason.Error) bool { return e.Code == f.want }) {
		t.Errorf("the zone says allow=%t, %v; want a denial with %s", d.Allow, d.Reasons, f.want)
	}
}

func decide(s *specimen, got verifier.Appraisal, zone *policy.Set) policy.Decision {
	return zone.Decide(policy.Input{
		Appraisal: got, Node: policy.Node{ID: "n", Groups: []string{"rack-7"}, AdmittedBy: "inventory", AKApproved: true},
		Now: s.now, AttestedAt: s.want.IssuedAt,
	})
}

func secureBootZone(t *testing.T) *policy.Set {
	t.Helper()
	return zoneOf(t, "secure_boot: true")
}

func firmwareZone(t *testing.T) *policy.Set {
	t.Helper()
	return zoneOf(t, `secure_boot: true, tpm: {firmware: {STM: "73.64"}}`)
}

// zoneOf is the lab's zone with more requirements.
func zoneOf(t *testing.T, requires string, more ...policy.File) *policy.Set {
	t.Helper()
	zone := strings.Replace(labZone, "format: [tpm2]}", "format: [tpm2], "+requires+"}", 1)
	zone = strings.Replace(zone, "tier: 1", "tier: 2", 1)
	set, problems := policy.Load(append([]policy.File{{Name: "zone.yaml", Bytes: []byte(zone)}}, more...))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

// TestCatalogueIsWhole: every row once, every row with a case of its own.
func TestCatalogueIsWhole(t *testing.T) {
	var numbers []int
	for _, r := range catalogue() {
		numbers = append(numbers, r.number)
		names := map[string]bool{}
		for _, f := range r.cases {
			if names[f.name] || f.name == "" {
				t.Errorf("%s: two cases are named %q", r, f.name)
			}
			names[f.name] = true
			if f.want != "" && !reason.Known(f.want) {
				t.Errorf("%s: %s is no code", r, f.want)
			}
			if event := reason.Lookup(f.want).Class == reason.Event; f.want != "" && event != (f.as == noted) {
				t.Errorf("%s/%s: %s is %s", r, f.name, f.want, reason.Lookup(f.want).Class)
			}
		}
		if len(r.cases)+len(r.broker) == 0 {
			t.Errorf("%s has no case", r)
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		if n != i+1 {
			t.Fatalf("row %d is missing or stands twice: %v", i+1, numbers)
		}
	}
	if len(numbers) != 100 {
		t.Errorf("%d rows", len(numbers))
	}
}

// codesOfRows returns which codes the cases of each row want.
func codesOfRows() map[int]map[reason.Code]bool {
	out := map[int]map[reason.Code]bool{}
	for _, r := range catalogue() {
		codes := map[reason.Code]bool{}
		for _, f := range r.cases {
			codes[f.want] = true
		}
		for _, f := range r.broker {
			codes[f.want] = true
		}
		delete(codes, "")
		out[r.number] = codes
	}
	return out
}

// TestCatalogueYieldsTheRegisteredCodes compares the cases with the register of
// codes, which says of each code in which rows it is wanted: no code of a row is
// without a case, and no case wants a code that the register does not give it.
func TestCatalogueYieldsTheRegisteredCodes(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "shared", "reference", "codes.tsv"))
	if err != nil {
		t.Skip("the register of codes is not beside this checkout, so its rows cannot be compared: ", err)
	}
	have, registered, pairs := codesOfRows(), map[int]map[reason.Code]bool{}, 0
	inRows := regexp.MustCompile(`\btpm ([0-9,]+)`)
	for line := range strings.Lines(string(raw)) {
		f := strings.Split(line, "\t")
		if len(f) < 5 {
			continue
		}
		m := inRows.FindStringSubmatch(f[3])
		if m == nil {
			continue
		}
		for n := range strings.SplitSeq(m[1], ",") {
			number, err := strconv.Atoi(n)
			must(t, err)
			if registered[number] == nil {
				registered[number] = map[reason.Code]bool{}
			}
			registered[number][reason.Code(f[0])] = true
			pairs++
			if !have[number][reason.Code(f[0])] {
				t.Errorf("row %d: %s has no case", number, f[0])
			}
		}
	}
	for number, codes := range have {
		for code := range codes {
			if !registered[number][code] {
				t.Errorf("row %d: the register does not name %s", number, code)
			}
		}
	}
	if pairs < 100 {
		t.Errorf("only %d pairs of row and code were read", pairs)
	}
	t.Logf("%d pairs of row and code", pairs)
}
