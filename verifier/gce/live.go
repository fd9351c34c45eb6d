package gce

import (
	"encoding/json"
	"slices"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// PartInstance is the part of gce.identity that the broker adds: what
// instances.get said. What an agent sends under this name has to be thrown away.
const PartInstance = "gce_instance"

const (
	// MaxInstance bounds what Google said of an instance, in bytes.
	MaxInstance = 64 << 10
	// maxMarks bounds labels and network tags each; Google allows 64 of both.
	maxMarks = 64
)

// Live adds to the facts of the token what Google says of the instance right now:
// JSON of the members id (decimal), labels (an object of strings), status and tags
// (a list of strings), as the broker writes it from an answer of instances.get. It
// is the broker's own and never an agent's. Errors: request.too_large;
// gce.no_instance, also for JSON of another form.
func (i Identity) Live(raw []byte, f *document.Facts) error {
	if len(raw) > MaxInstance {
		return reason.New(reason.RequestTooLarge, "what Google says of the instance is longer than 64 KiB")
	}
	members, err := strictjson.Object(raw)
	if err != nil || len(members) != 4 {
		return reason.New(reason.GCENoInstance, "what Google says of the instance is not strict JSON of four members")
	}
	id, _ := strictjson.Text(members["id"])
	status, _ := strictjson.Text(members["status"])
	ce := i.claims.Google.ComputeEngine
	switch {
	case ce == nil || id != ce.InstanceID:
		return reason.New(reason.GCENoInstance, "Google knows another instance by that name")
	case status != "RUNNING":
		return reason.Newf(reason.GCENoInstance, "Google says that the instance is %.40q, not running", status)
	}
	var labels map[string]string
	var tags []string
	if json.Unmarshal(members["labels"], &labels) != nil || json.Unmarshal(members["tags"], &tags) != nil || len(labels) > maxMarks || len(tags) > maxMarks {
		return reason.New(reason.GCENoInstance, "labels or tags of the instance are not up to 64 strings each")
	}
	marks := make([]string, 0, len(labels))
	for key, value := range labels {
		marks = append(marks, key+"="+value)
	}
	slices.Sort(marks)
	for _, mark := range marks {
		f.Add("gce.label", mark)
	}
	for _, tag := range tags {
		f.Add("gce.tag", tag)
	}
	f.Confirm("gce.identity.live", "Google says that the instance is running")
	f.Sort()
	return nil
}
