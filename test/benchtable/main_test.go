package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

const output = `goos: linux
pkg: example.org/a
cpu: Some CPU
BenchmarkOne/callers=8-2         	     100	   1234567 ns/op	       3.5 p50-ms
BenchmarkOne/callers=32-2        	      50	   2345678 ns/op	       1.25 commits/op
BenchmarkTwo-2 	 1000 	 10.5 ns/op
    a_test.go:1: something that was said
PASS
ok  	example.org/a	1.2s
`

func TestTable(t *testing.T) {
	var said, table bytes.Buffer
	r, err := read(strings.NewReader(output), &said)
	if err != nil || r.failed || len(r.Results) != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := r.print(&table, "table"); err != nil {
		t.Fatal(err)
	}
	const want = `cpu: Some CPU
goos: linux

example.org/a One
               ns/op  p50-ms  commits/op
   callers=8  1234567     3.5           ·
  callers=32  2345678       ·        1.25

example.org/a Two
      ns/op
  Two   10.5
`
	if strings.Join(strings.Fields(table.String()), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("printed\n%s", table.String())
	}
	if !strings.Contains(said.String(), "something that was said") {
		t.Errorf("said %q", said.String())
	}
}

func TestJSON(t *testing.T) {
	r, err := read(strings.NewReader(output), &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.print(&out, "json"); err != nil {
		t.Fatal(err)
	}
	var got run
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Machine["cpu"] != "Some CPU" || got.Results[0].Name != "One/callers=8" || got.Results[0].N != 100 ||
		got.Results[0].Metrics["p50-ms"] != 3.5 || got.Results[2].Package != "example.org/a" {
		t.Errorf("%+v", got)
	}
	if r.print(&out, "xml") == nil {
		t.Error("an unknown form is printed")
	}
}

func TestFailuresAreSeen(t *testing.T) {
	for _, text := range []string{"--- FAIL: BenchmarkOne\n", "FAIL\texample.org/a 1s\n", "    --- FAIL: BenchmarkOne/x\n"} {
		if r, err := read(strings.NewReader(output+text), &bytes.Buffer{}); err != nil || !r.failed {
			t.Errorf("%q: %v", text, err)
		}
	}
}
