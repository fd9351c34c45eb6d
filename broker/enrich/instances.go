package enrich

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/ec2"
)

// InstancesConfig says how EC2 is asked about instances.
type InstancesConfig struct {
	EC2 Endpoint
	STS Endpoint // for AssumeRole
	// Credentials is a file (0600) with JSON of access_key_id, secret_access_key and,
	// for temporary ones, session_token. "" takes those of the role of the instance
	// that the broker runs on. They need ec2:DescribeInstances and, with Role,
	// sts:AssumeRole.
	Credentials string
	// Role is the name of a role, with its path, that is assumed in the account of
	// each document; "" asks with the broker's own credentials, and documents of
	// other accounts are then not found.
	Role string
	// Metadata replaces the address of the metadata service, as host:port.
	Metadata string
	Now      func() time.Time // nil for the clock of the machine
}

// Instances asks EC2 whether the instance of an identity document still runs.
type Instances struct {
	calls       *caller
	credentials *awsCredentials
	now         func() time.Time
}

// NewInstances makes one. Error: a role that is no name.
func NewInstances(c InstancesConfig) (*Instances, error) {
	if c.Role != "" && !roleName.MatchString(c.Role) {
		return nil, fmt.Errorf("%.40q is not the name of a role", c.Role)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	metadata := Endpoint{Address: c.Metadata, Timeout: c.EC2.Timeout, plain: true}
	return &Instances{
		calls: newCaller(c.EC2), now: c.Now,
		credentials: &awsCredentials{file: c.Credentials, metadata: newCaller(metadata), sts: newCaller(c.STS), role: c.Role, now: c.Now},
	}, nil
}

// Name returns "ec2.instances".
func (*Instances) Name() string { return "ec2.instances" }

// Format returns the format that it is about.
func (*Instances) Format() string { return verifier.FormatEC2IID }

// Essential returns false: the document proves something alone.
func (*Instances) Essential() bool { return false }

// described is the answer of DescribeInstances (EC2 API Reference, 2016-11-15).
type described struct {
	XMLName      xml.Name
	Reservations []struct {
		Owner     string `xml:"ownerId"`
		Instances []struct {
			ID     string `xml:"instanceId"`
			Image  string `xml:"imageId"`
			State  string `xml:"instanceState>name"`
			Launch string `xml:"launchTime"`
			Tags   []struct {
				Key   string `xml:"key"`
				Value string `xml:"value"`
			} `xml:"tagSet>item"`
		} `xml:"instancesSet>item"`
	} `xml:"reservationSet>item"`
}

// ec2Instance is the part, in the order of its names.
type ec2Instance struct {
	Account  string            `json:"account_id"`
	Image    string            `json:"image_id"`
	Instance string            `json:"instance_id"`
	Launch   string            `json:"launch_time"`
	Region   string            `json:"region"`
	State    string            `json:"state"`
	Tags     map[string]string `json:"tags"`
}

// Enrich asks for the one instance in its region and account, and returns what EC2
// says as part ec2.PartInstance. That EC2 knows no such instance is an answer too:
// its state is then "not_found".
func (i *Instances) Enrich(ctx context.Context, item verifier.Item, _ [32]byte) (map[string][]byte, error) {
	named, err := ec2.ReadClaimed(item.Document)
	if err != nil {
		return nil, err
	}
	host, _, ok := ec2.Endpoint("ec2", named.Region)
	if !ok {
		return nil, fmt.Errorf("%s is no region of AWS", named.Region)
	}
	keys, err := i.credentials.of(ctx, named.Account, named.Region)
	if err != nil {
		return nil, err
	}
	r := request{method: http.MethodPost, host: host, path: "/", header: form(), body: url.Values{
		"Action": {"DescribeInstances"}, "Version": {"2016-11-15"}, "InstanceId.1": {named.Instance},
	}.Encode()}
	if err := keys.sign(&r, "ec2", named.Region, i.now()); err != nil {
		return nil, err
	}
	got, err := i.calls.send(ctx, r)
	if err != nil {
		return nil, err
	}
	out := ec2Instance{Account: named.Account, Instance: named.Instance, Region: named.Region, State: "not_found", Tags: map[string]string{}}
	if !unknownInstance(got) {
		if out, err = readDescribed(got, named.Region); err != nil {
			return nil, err
		}
	}
	part, err := json.Marshal(out)
	return map[string][]byte{ec2.PartInstance: part}, err
}

// unknownInstance reads EC2's error for an id that the account does not have.
func unknownInstance(got answer) bool {
	var refused struct {
		Code string `xml:"Errors>Error>Code"`
	}
	return got.status == http.StatusBadRequest && xml.Unmarshal(got.body, &refused) == nil && refused.Code == "InvalidInstanceID.NotFound"
}

func readDescribed(got answer, region string) (ec2Instance, error) {
	if err := got.is(http.StatusOK, "text/xml"); err != nil {
		return ec2Instance{}, fmt.Errorf("DescribeInstances: %w", err)
	}
	var d described
	if err := xml.Unmarshal(got.body, &d); err != nil || d.XMLName.Local != "DescribeInstancesResponse" {
		return ec2Instance{}, errors.New("DescribeInstances: not a DescribeInstancesResponse")
	}
	if len(d.Reservations) != 1 || len(d.Reservations[0].Instances) != 1 {
		return ec2Instance{}, errors.New("DescribeInstances: not one instance")
	}
	one := d.Reservations[0].Instances[0]
	tags := make(map[string]string, len(one.Tags))
	for _, t := range one.Tags {
		tags[t.Key] = t.Value
	}
	return ec2Instance{d.Reservations[0].Owner, one.Image, one.ID, one.Launch, region, one.State, tags}, nil
}
