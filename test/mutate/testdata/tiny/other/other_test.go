package other

import (
	"testing"

	"example.org/tiny"
)

func TestFirst(t *testing.T) {
	if _, err := tiny.First(nil); err == nil {
		t.Error("no error")
	}
}
