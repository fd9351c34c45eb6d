package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

var updateSchemas = flag.Bool("update-schemas", false, "write the schemas that are made from the contract")

const (
	schemaDir = "../docs/schemas"
	dialect   = "https://json-schema.org/draft/2020-12/schema"
)

// shape of an output that is a type of the contract: one, or a list of it.
type contracted struct {
	command string
	title   string
	list    bool
	of      string // a schema of openapi.yaml
}

// contractedOutputs are made from openapi.yaml, so that command and route cannot
// drift apart; the schemas of all other outputs are written by hand.
var contractedOutputs = []contracted{
	{"zonebroker health", "Whether a broker can judge, record and issue", false, "Health"},
	{"zonebroker node list", "All nodes", true, "Node"},
	{"zonebroker node show", "One node", false, "Node"},
	{"zonebroker node admit", "An admission to the inventory", false, "Admission"},
	{"zonebroker node revoke", "The admission that was taken back", false, "Admission"},
	{"zonebroker node approve", "The admission, or the node, that was approved", false, "Approval"},
	{"zonebroker node announce", "The node as it is now", false, "Node"},
	{"zonebroker node disable", "The node as it is now", false, "Node"},
	{"zonebroker node pending", "Machines that wait for an operator", true, "PendingNode"},
	{"zonebroker node timeline", "The life of a node, newest first", true, "TimelineEntry"},
	{"zonebroker token create", "A join token; its secret is shown once", false, "Token"},
	{"zonebroker operator list", "Holders of role certificates", true, "Operator"},
	{"zonebroker operator revoke", "The holder whose role was taken back", false, "Operator"},
	{"zonebroker history list", "Records of the history, newest first", true, "Entry"},
	{"zonebroker history show", "One record with its body", false, "Entry"},
	{"zonebroker history explain", "Why a host was denied", false, "Explanation"},
	{"zonebroker history verify", "What verifying the whole history found", false, "Verification"},
	{"zonebroker retention apply", "The retention policy in force", false, "Retention"},
	{"zonebroker retention show", "The retention policy in force and what went by it", false, "Retention"},
	{"zonebroker retention sweep", "What a sweep did", false, "SweepReport"},
	{"zonebroker hold place", "A legal hold", false, "Hold"},
	{"zonebroker hold list", "Legal holds, those in force first", true, "Hold"},
	{"zonebroker hold release", "The hold that was released", false, "Hold"},
	{"zonebroker drift list", "Changes of hosts, newest first", true, "Drift"},
	{"zonebroker history members", "Who had earned a zone at a time", false, "MemberPage"},
	{"zonebroker history population", "How many nodes had a fact at a time", false, "PopulationPage"},
	{"zonebroker history rates", "Attestations by hour and zone", false, "RateList"},
	{"zonebroker history crosscheck", "Hourly counts that are not those of their rows", false, "CrossCheck"},
	{"zonebroker drift baseline", "Nodes that differ from their fleet", false, "BaselinePage"},
	{"zonebroker drift detection", "How long drift may have gone unseen", false, "DetectionPage"},
	{"zonebroker drift summary", "Times to detect, by kind of drift", false, "DetectionSummary"},
	{"zonebroker inventory import", "The import as it was recorded", false, "Inventory"},
	{"zonebroker inventory coverage", "The inventory against what attests", false, "Coverage"},
	{"zonebroker node as-of", "What a node was at a time", false, "NodeAt"},
	{"zonebroker node intervals", "The spans in which a node earned a zone", false, "IntervalPage"},
	{"zonebroker node unseen", "Nodes that were not seen for a while", false, "UnseenPage"},
	{"zonebroker svid show", "From a serial number to decision and evidence", false, "SVIDTrail"},
	{"zonebroker svid list", "Issued SVIDs, newest first", false, "SVIDPage"},
}

// formats are documents of the contract that are no output of a command.
var formats = []contracted{
	{"erasure", "The proof that a node was erased and the log is whole", false, "ErasureProof"},
	{"evidence", "Evidence with all that it has to match", false, "EvidenceFile"},
}

func schemaFile(command string) string {
	return filepath.Join(schemaDir, strings.ReplaceAll(command, " ", "-")+".json")
}

func (c contracted) description() string {
	if slices.Contains(formats, c) {
		return "Made from the contract of the broker."
	}
	return "Output of " + c.command + " -o json. Made from the contract of the broker."
}

// document makes the schema of an output, with the definitions that it reaches.
func (c contracted) document(t *testing.T, all map[string]any) []byte {
	t.Helper()
	definitions := map[string]any{}
	var reach func(v any) any
	reach = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			out := map[string]any{}
			for k, member := range v {
				if name, ok := strings.CutPrefix(text(member), "#/components/schemas/"); ok && k == "$ref" {
					if _, known := definitions[name]; !known {
						definitions[name] = nil // a cycle ends here
						definitions[name] = reach(all[name])
					}
					out[k] = "#/$defs/" + name
					continue
				}
				out[k] = reach(member)
			}
			return out
		case []any:
			out := make([]any, len(v))
			for i := range v {
				out[i] = reach(v[i])
			}
			return out
		}
		return v
	}
	if all[c.of] == nil {
		t.Fatalf("openapi.yaml has no schema %s, which %s prints", c.of, c.command)
	}
	ref := reach(map[string]any{"$ref": "#/components/schemas/" + c.of})
	doc := map[string]any{
		"$schema": dialect, "$id": schemaID(c.command), "title": c.title,
		"description": c.description(),
		"$defs":       definitions,
	}
	if c.list {
		doc["type"], doc["items"] = "array", ref
	} else {
		doc["$ref"] = ref.(map[string]any)["$ref"]
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	must(t, e.Encode(doc))
	return b.Bytes()
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func schemaID(command string) string {
	return "urn:zonebroker:output:" + strings.ReplaceAll(command, " ", "-")
}

// TestSchemasFollowTheContract: go test ./test -run SchemasFollow -update-schemas
// writes them anew.
func TestSchemasFollowTheContract(t *testing.T) {
	raw, err := os.ReadFile("../broker/api/openapi.yaml")
	must(t, err)
	var contract struct {
		Components struct {
			Schemas map[string]any `yaml:"schemas"`
		} `yaml:"components"`
	}
	must(t, yaml.Unmarshal(raw, &contract))
	for _, c := range append(slices.Clone(contractedOutputs), formats...) {
		want := c.document(t, contract.Components.Schemas)
		if *updateSchemas {
			must(t, os.WriteFile(schemaFile(c.command), want, 0o644))
		}
		got, err := os.ReadFile(schemaFile(c.command))
		if err != nil {
			t.Errorf("%v: make it with -update-schemas", err)
			continue
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not of the contract; -update-schemas writes it anew (-contract +file):\n%s", schemaFile(c.command), diff)
		}
	}
}

// TestEveryJSONOutputHasASchema, and every schema an output.
func TestEveryJSONOutputHasASchema(t *testing.T) {
	var files []string
	for _, c := range tree(t) {
		if c.json == "" {
			continue
		}
		files = append(files, schemaFile(c.path))
		if _, err := os.Stat(schemaFile(c.path)); err != nil {
			t.Errorf("%s prints JSON that no schema describes: %v", c.path, err)
		}
	}
	for _, c := range formats {
		files = append(files, schemaFile(c.command))
	}
	found, err := filepath.Glob(filepath.Join(schemaDir, "*.json"))
	must(t, err)
	for _, f := range found {
		if !slices.Contains(files, f) {
			t.Errorf("%s describes no output", f)
		}
	}
}

// TestSchemasAreStrict: a schema that takes anything proves nothing. Objects
// name their members and refuse others, but for those that a foreign standard
// defines, and say which are always there.
func TestSchemasAreStrict(t *testing.T) {
	found, err := filepath.Glob(filepath.Join(schemaDir, "*.json"))
	must(t, err)
	for _, f := range found {
		command := strings.TrimSuffix(filepath.Base(f), ".json")
		_ = compile(t, command)
		raw, err := os.ReadFile(f)
		must(t, err)
		var doc map[string]any
		must(t, json.Unmarshal(raw, &doc))
		if doc["$schema"] != dialect || doc["$id"] != "urn:zonebroker:output:"+command || doc["title"] == nil || doc["description"] == nil {
			t.Errorf("%s: $schema, $id, title and description are needed", f)
		}
		var walk func(where string, v any)
		walk = func(where string, v any) {
			switch v := v.(type) {
			case map[string]any:
				if properties, ok := v["properties"].(map[string]any); ok && v["additionalProperties"] == nil {
					if v["description"] == nil {
						t.Errorf("%s%s takes members that it does not name (it names %d)", f, where, len(properties))
					}
				}
				for k, member := range v {
					walk(where+"/"+k, member)
				}
			case []any:
				for _, member := range v {
					walk(where, member)
				}
			}
		}
		walk("", doc)
	}
}

// compile reads the schema of a command, given with spaces or dashes.
func compile(t *testing.T, command string) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open(schemaFile(command))
	must(t, err)
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	must(t, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	must(t, c.AddResource(schemaID(command), doc))
	s, err := c.Compile(schemaID(command))
	must(t, err)
	return s
}

// validate judges an output, and that the schema would notice if it were
// otherwise: with a member more, or with one that is something else.
func validate(t *testing.T, command string, out []byte) {
	t.Helper()
	s := compile(t, command)
	judge(t, command, s, out)
}

// validateLines judges an output that is a line an event.
func validateLines(t *testing.T, command string, out []byte) {
	t.Helper()
	s := compile(t, command)
	for line := range bytes.Lines(out) {
		judge(t, command, s, line)
	}
}

func judge(t *testing.T, command string, s *jsonschema.Schema, out []byte) {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(out))
	if err != nil {
		t.Errorf("%s prints no JSON: %v\n%s", command, err, out)
		return
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("the output of %s is not of its schema: %v\n%s", command, err, out)
		return
	}
	if list, ok := v.([]any); ok {
		if len(list) == 0 {
			return
		}
		v = list[0]
		s = s.Items2020
	}
	object, ok := v.(map[string]any)
	if !ok {
		t.Errorf("%s prints neither an object nor a list of them", command)
		return
	}
	if err := s.Validate(with(object, "forged", true)); !isInvalid(err) {
		t.Errorf("the schema of %s takes a member that it does not name: %v", command, err)
	}
	for name := range object {
		if err := s.Validate(with(object, name, []any{[]any{}})); !isInvalid(err) {
			t.Errorf("the schema of %s takes anything for %s: %v", command, name, err)
		}
	}
}

func with(object map[string]any, name string, value any) map[string]any {
	out := map[string]any{name: value}
	for k, v := range object {
		if k != name {
			out[k] = v
		}
	}
	return out
}

func isInvalid(err error) bool {
	_, ok := errors.AsType[*jsonschema.ValidationError](err)
	return ok
}
