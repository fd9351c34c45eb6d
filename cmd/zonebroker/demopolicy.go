package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

const demoDomain = "demo.zonebroker.test"

// demoZone is a zone of the story, and what its hosts boot.
type demoZone struct {
	name, group string
	tier        int
	reference   string // reference set that the zone asks for, "" for none
	machine     build.Machine
	document    string // takes the uid of whoever runs the demo
}

// demoZones are in the order in which hosts are dealt to them.
var demoZones = []demoZone{
	{
		name: "payments", group: "rack-7", tier: 2, reference: "debian-6.1",
		machine: build.Machine{KernelVersion: "6.1.0-28-amd64"},
		document: `apiVersion: zonebroker/v1
kind: Zone
name: payments
tier: 2
selectors: {any: [{group: rack-7}]}
admit: [inventory]
requires: {class: A, format: [tpm2], references: [debian-6.1], secure_boot: true}
evidence: {max_age: 5m}
issue: {x509_ttl: 1h, jwt_ttl: 5m, grace: 55m, audiences: [payments-api]}
workloads:
  - {name: checkout, uid: %d}
`,
	},
	{
		name: "batch", group: "rack-8", tier: 2, reference: "debian-6.12",
		machine: build.Machine{KernelVersion: "6.12.9-amd64", CommandLine: "root=/dev/vda1 ro quiet mitigations=auto"},
		document: `apiVersion: zonebroker/v1
kind: Zone
name: batch
tier: 2
selectors: {any: [{group: rack-8}]}
admit: [inventory]
requires: {class: A, format: [tpm2], references: [debian-6.12], secure_boot: true}
evidence: {max_age: 5m}
issue: {x509_ttl: 1h, grace: 55m}
workloads:
  - {name: report, uid: %d}
`,
	},
	{
		name: "lab", group: "bench", tier: 1,
		machine: build.Machine{KernelVersion: "6.14.0-rc3-lab", SecureBootOff: true},
		document: `apiVersion: zonebroker/v1
kind: Zone
name: lab
tier: 1
selectors: {any: [{group: bench}]}
admit: [inventory]
requires: {class: A, format: [tpm2]}
evidence: {max_age: 10m}
issue: {x509_ttl: 1h, grace: 50m}
workloads:
  - {name: experiment, uid: %d}
`,
	},
}

// otherKernel is one that no reference set knows.
const otherKernel = "6.1.0-99-other"

// demoLimits let a fleet behind one address start at once.
const demoLimits = `limits:
  connections_per_address: 1000
  per_address: {per_second: 400, burst: 800}
  strangers: {per_second: 400, burst: 800}
  queue: 1000
  enrolments: 200
`

// furnish makes the broker's folder: keys, the lab's CA as the only root, zones,
// and the reference sets of their images.
func (d *demo) furnish(now time.Time) error {
	if _, err := initDir(d.dir, demoDomain, "127.0.0.1:0", now); err != nil {
		return err
	}
	var err error
	if d.ca, err = swtpm.OpenCA(filepath.Join(d.dir, "lab-ca"), now); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(d.dir, configFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "extra_vendors: [%q]\n%s", swtpm.Manufacturer, demoLimits)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	files := map[string][]byte{filepath.Join(rootsDir, "lab-ca.pem"): d.ca.RootPEM()}
	for _, z := range demoZones {
		files[filepath.Join(policyDir, z.name+".yaml")] = fmt.Appendf(nil, z.document, os.Geteuid())
		if z.reference == "" {
			continue
		}
		if files[filepath.Join(policyDir, z.reference+".yaml")], err = imageReference(z.reference, z.machine); err != nil {
			return err
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(d.dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// imageReference is the reference set that an image builder would publish with
// the image: what its boot replays to.
func imageReference(name string, image build.Machine) ([]byte, error) {
	log, err := eventlog.Parse(image.Log().Bytes())
	if err != nil {
		return nil, err
	}
	m := api.ReferenceMaterial{Node: "image", AttestationID: "built", PCRs: map[string]string{}}
	values := log.Replay()
	for _, pcr := range []int{0, 4, 7, 8, 9} {
		m.PCRs[strconv.Itoa(pcr)] = hex.EncodeToString(values[pcr])
	}
	o := referenceOptions{name: name, approvedBy: "demo"}
	return o.document(m)
}
