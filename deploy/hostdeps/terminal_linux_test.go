package hostdeps_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zonebroker/zonebroker/deploy/hostdeps"
)

// terminal opens a pseudo-terminal; what is written to keyboard is what a
// person types.
func terminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	return keyboard, screen
}

func TestTerminalIsAsked(t *testing.T) {
	for answer, leave := range map[string]bool{"\n": true, "y\n": true, "Yes\n": true, "n\n": false, "what?\n": false} {
		t.Run(strings.TrimSpace(answer), func(t *testing.T) {
			called := apt(t)
			keyboard, screen := terminal(t)
			if _, err := keyboard.WriteString(answer); err != nil {
				t.Fatal(err)
			}
			var said strings.Builder
			_, err := hostdeps.Ensure(context.Background(), hostdeps.Options{In: screen, Err: &said}, hostdeps.SWTPM)
			if called() != leave || errors.Is(err, hostdeps.ErrNotAllowed) == leave {
				t.Errorf("called %v, error %v", called(), err)
			}
			if !strings.Contains(said.String(), "Go on?") {
				t.Errorf("no question in %q", said.String())
			}
		})
	}
}
