package nvidia

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// MaxRIM bounds one set of reference measurements in bytes.
const MaxRIM = 256 << 10

// Kinds of reference measurements: NVIDIA publishes those of the driver and those
// of the VBIOS apart, and a device needs both.
const (
	rimDriver = "driver"
	rimVBIOS  = "vbios"
)

// rim is a set of reference measurements: a trust object nvidia.rim/<name>.
type rim struct {
	Kind         string        `json:"kind"` // driver or vbios
	Chip         string        `json:"chip"` // first word of the model, as in GH100
	Version      string        `json:"version"`
	Measurements []measurement `json:"measurements"`
	// Ignored are measurements that differ from device to device. One that stands in
	// no set of a device is refused.
	Ignored []int `json:"ignored"`
}

type measurement struct {
	Index  int      `json:"index"`
	Values []string `json:"values"` // hex; any of them is good

	values [][]byte
}

// rimKey is what a set is found by.
type rimKey struct{ kind, chip, version string }

func readRIM(raw []byte) (rim, error) {
	var r rim
	if len(raw) > MaxRIM {
		return r, errors.New("larger than 256 KiB")
	}
	if err := strictjson.UnmarshalKnown(raw, &r); err != nil {
		return r, err
	}
	if r.Kind != rimDriver && r.Kind != rimVBIOS || r.Chip == "" || r.Version == "" || len(r.Measurements) == 0 {
		return r, errors.New("kind is driver or vbios; chip, version and measurements must not be empty")
	}
	seen := map[int]bool{}
	for _, i := range r.Ignored {
		if i < 1 || i > 254 || seen[i] {
			return r, fmt.Errorf("ignored index %d is not from 1 to 254, or stands twice", i)
		}
		seen[i] = true
	}
	for i := range r.Measurements {
		m := &r.Measurements[i]
		if m.Index < 1 || m.Index > 254 || seen[m.Index] || len(m.Values) == 0 {
			return r, fmt.Errorf("index %d is not from 1 to 254, stands twice or has no value", m.Index)
		}
		seen[m.Index] = true
		for _, text := range m.Values {
			v, err := hex.DecodeString(text)
			if err != nil || len(v) == 0 || len(v) > maxMeasurement {
				return r, fmt.Errorf("a value of index %d is not hex of up to 64 bytes", m.Index)
			}
			m.values = append(m.values, v)
		}
	}
	return r, nil
}

// judge compares the measurements of a device with the sets for its driver and its
// VBIOS. What both name has to fit both. Without one of the sets nothing says what
// the device runs: that is what missing tells, and what is there is compared all
// the same. Errors: nvidia.result.
func (t Trust) judge(r *report) (missing string, err error) {
	covered := map[int]bool{}
	for _, key := range []rimKey{{rimDriver, r.chip(), r.driver}, {rimVBIOS, r.chip(), r.vbios}} {
		set, ok := t.rims[key]
		if !ok {
			missing = fmt.Sprintf("no reference measurements are configured for %s %q of %s", key.kind, key.version, key.chip)
			continue
		}
		for _, i := range set.Ignored {
			covered[i] = true
		}
		for _, m := range set.Measurements {
			covered[m.Index] = true
			if !m.has(r.measurements[m.Index]) {
				return "", reason.Newf(reason.NvidiaResult, "measurement %d is %x, which the reference of the %s does not have", m.Index, r.measurements[m.Index], key.kind)
			}
		}
	}
	for _, i := range slices.Sorted(maps.Keys(r.measurements)) {
		if missing == "" && !covered[i] {
			return "", reason.Newf(reason.NvidiaResult, "measurement %d stands in no reference", i)
		}
	}
	return missing, nil
}

func (m *measurement) has(value []byte) bool {
	for _, v := range m.values {
		if bytes.Equal(v, value) {
			return true
		}
	}
	return false
}
