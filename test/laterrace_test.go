package test

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestT54_FallsWhileAnSVIDIsOnItsWay: a replica that judged a node and then
// stands still issues nothing on that judgement once the node fell at another.
func TestT54_FallsWhileAnSVIDIsOnItsWay(t *testing.T) {
	c := newCluster(t, laterZone)
	p := c.start(t)
	for _, tt := range []struct {
		name  string
		token bool
		fall  func(t *testing.T, a *asker)
		want  reason.Code
	}{
		{"disabled", false, func(t *testing.T, a *asker) { p.ctl(t, nil, "node", "disable", a.res.Node) }, reason.NodeDisabled},
		{"disabled_jwt", true, func(t *testing.T, a *asker) { p.ctl(t, nil, "node", "disable", a.res.Node) }, reason.NodeDisabled},
		{"denied", true, func(t *testing.T, a *asker) {
			a.reboot(build.Machine{SecureBootOff: true}.Log())
			if _, err := a.renew(t); err == nil {
				t.Error("attested without Secure Boot")
			}
		}, reason.PolicyEvidenceAge},
		{"renewed", false, func(t *testing.T, a *asker) {
			_, err := a.renew(t)
			must(t, err)
		}, reason.AuthInvalid},
		{"nothing_happened", false, func(*testing.T, *asker) {}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAsker(t, p, "rack-7")
			still := c.start(t, "ZONEBROKER_FAILPOINT=stop:svid.record")
			conn, before := a.at(t, still), c.issued(t)
			answer := make(chan error, 1)
			go func() {
				var err error
				if tt.token {
					_, err = askJWT(t, conn, "web")
				} else {
					_, err = askSVID(t, conn, "web")
				}
				answer <- err
			}()
			eventually(t, 10*time.Second, "the replica stands still", still.stopped)
			tt.fall(t, a)
			must(t, still.cmd.Process.Signal(syscall.SIGCONT))
			err, records := <-answer, c.issued(t)-before
			if tt.want == "" {
				must(t, err)
			} else {
				wantCode(t, err, tt.want)
			}
			if tt.want == "" != (records == 1) {
				t.Errorf("%d records", records)
			}
		})
	}
	c.wantWhole(t, p)
}

// stopped asks the kernel for the state of the process.
func (p *replica) stopped() bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return false
	}
	// The name in parentheses may hold anything.
	return bytes.HasPrefix(raw[bytes.LastIndexByte(raw, ')')+1:], []byte(" T"))
}
