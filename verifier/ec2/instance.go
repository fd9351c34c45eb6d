package ec2

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// Names of the parts that the broker's enrichers add; what an agent sends under
// them has to be thrown away.
const (
	PartInstance = "ec2_instance" // of ec2.iid: what Live reads
	PartAnswer   = "answer"       // of ec2.sts: what Answered reads
)

const (
	// MaxInstance bounds what the cloud said of an instance, in bytes.
	MaxInstance = 64 << 10
	// launchSkew is how far the cloud's launch time may be after pendingTime: both
	// are of the same start, written by two parts of EC2.
	launchSkew = time.Minute
	// maxTags is EC2's own limit.
	maxTags = 50
)

// instance is what DescribeInstances said.
type instance struct {
	state string
	tags  []string // key=value
}

// Live adds what the cloud says of the instance right now: JSON of the members
// account_id, image_id, instance_id, launch_time (RFC 3339), region, state and
// tags (an object of strings), as the broker writes it from an answer of
// DescribeInstances. It is the broker's own and never an agent's. Errors:
// request.too_large; ec2.instance_state, also for JSON of another form.
func (d Document) Live(raw []byte) (Document, error) {
	if len(raw) > MaxInstance {
		return Document{}, reason.New(reason.RequestTooLarge, "what the cloud says of the instance is longer than 64 KiB")
	}
	members, err := strictjson.Object(raw)
	if err != nil {
		return Document{}, reason.Wrap(reason.EC2InstanceState, "what the cloud says of the instance is not strict JSON", err)
	}
	if len(members) != 7 {
		return Document{}, reason.New(reason.EC2InstanceState, "what the cloud says of the instance has not its seven members")
	}
	for _, m := range []struct{ name, want string }{
		{"account_id", d.account},
		{"region", d.region},
		{"instance_id", d.instance},
		{"image_id", d.image},
		{"state", "running"},
	} {
		if got, ok := strictjson.Text(members[m.name]); !ok || got != m.want {
			return Document{}, reason.Newf(reason.EC2InstanceState, "the cloud gives %s as %.40q, not %s", m.name, got, m.want)
		}
	}
	text, _ := strictjson.Text(members["launch_time"])
	launched, err := time.Parse(time.RFC3339, text)
	if err != nil || launched.After(d.pending.Add(launchSkew)) {
		return Document{}, reason.Newf(reason.EC2InstanceState, "the cloud gives the launch time as %.40q, and the document is of %s", text, d.pending.Format(time.RFC3339))
	}
	tags, ok := tagList(members["tags"])
	if !ok {
		return Document{}, reason.New(reason.EC2InstanceState, "the tags of the instance are not an object of at most 50 strings")
	}
	d.live = &instance{state: "running", tags: tags}
	return d, nil
}

func tagList(raw json.RawMessage) ([]string, bool) {
	var tags map[string]string
	if len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &tags) != nil || len(tags) > maxTags {
		return nil, false
	}
	out := make([]string, 0, len(tags))
	for key, value := range tags {
		out = append(out, key+"="+value)
	}
	slices.Sort(out)
	return out, true
}

func (i *instance) tell(f *document.Facts) {
	f.Add("ec2.state", i.state)
	for _, tag := range i.tags {
		f.Add("ec2.tag", tag)
	}
	f.Confirm("ec2.iid.live", "the cloud says that the instance is running and was not launched anew")
}
