package metadata

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
)

// Platform is a cloud that runs this host.
type Platform string

// The platforms with a metadata service.
const (
	AWS    Platform = "Amazon EC2"
	Google Platform = "Google Compute Engine"
	Azure  Platform = "Microsoft Azure"
)

// A platform never changes under a running host; that there is none may only mean
// that the network is not up yet.
const (
	platformTime = time.Hour
	absenceTime  = time.Minute
)

// azureChassis is the asset tag by which Azure's machines are known; other
// machines on Hyper-V have none (learn.microsoft.com, cloud-init's Azure source).
const azureChassis = "7783-7084-3265-9085-8269-3286-77"

const maxTable = 4 << 10 // of a string in the firmware's tables

// Platform says whose machine this is. The firmware's tables decide where the
// system shows them, so that a machine of no cloud asks nobody on its network; a
// system without such tables, and a service that was named on the command line, is
// asked in the way of each platform.
func (s *Service) Platform(ctx context.Context) (Platform, error) {
	s.mu.Lock()
	if s.now().Before(s.until) {
		defer s.mu.Unlock()
		return s.platform, s.failed
	}
	s.mu.Unlock()
	p, err := s.find(ctx)
	if ctx.Err() != nil {
		return p, err // that it was not waited for says nothing of the host
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.platform, s.failed, s.until = p, err, s.now().Add(platformTime)
	if err != nil {
		s.until = s.now().Add(absenceTime)
	}
	return p, err
}

// Require is an error unless this is a machine of want.
func (s *Service) Require(ctx context.Context, want Platform) error {
	p, err := s.Platform(ctx)
	if err != nil {
		return err
	}
	if p != want {
		return &collect.Error{What: "ask the metadata service", Why: fmt.Sprintf("this is a machine of %s, not of %s", p, want)}
	}
	return nil
}

func (s *Service) find(ctx context.Context) (Platform, error) {
	if !s.overridden() {
		if vendor, p := s.firmware(); p != "" {
			return p, nil
		} else if vendor != "" {
			return "", &collect.Error{What: "find the platform", Why: "this is a machine of no cloud that is known here; its firmware says " + vendor}
		}
	}
	for _, probe := range []struct {
		platform Platform
		ask      func(context.Context) error
	}{{AWS, s.probeAWS}, {Google, s.probeGoogle}, {Azure, s.probeAzure}} {
		err := probe.ask(ctx)
		if err == nil {
			return probe.platform, nil
		}
		if Status(err) == 0 {
			return "", err // nobody is there; the others would wait for the same
		}
	}
	return "", &collect.Error{What: "find the platform", Why: "what answers at " + s.base + " is no metadata service that is known here"}
}

// firmware reads the tables of the machine (DMI): what they say of the vendor, ""
// where there are none, and the platform, "" where it is none.
func (s *Service) firmware() (string, Platform) {
	table := func(name string) string {
		text, err := collect.Read(collect.File(s.root, "/sys/class/dmi/id/"+name), maxTable)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(text))
	}
	vendor, bios := table("sys_vendor"), table("bios_vendor")
	switch {
	case strings.HasPrefix(vendor, "Amazon EC2"), strings.HasPrefix(bios, "Amazon EC2"),
		vendor == "Xen" && strings.Contains(table("bios_version"), "amazon"):
		return vendor, AWS
	case table("product_name") == "Google Compute Engine":
		return vendor, Google
	case table("chassis_asset_tag") == azureChassis:
		return vendor, Azure
	}
	if vendor == "" {
		vendor = bios
	}
	return vendor, ""
}
