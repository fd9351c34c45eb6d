package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxToken bounds a join token's file.
const maxToken = 1 << 10

// ReadJoinToken reads a one-time join token from a file that only its owner can
// read; a token that others could read may be used by others first. White space
// around it is dropped.
func ReadJoinToken(path string) (string, error) {
	fault := func(why, fix string, err error) error {
		return &Fault{Kind: FaultFile, What: "read the join token", Why: why, Fix: fix, err: err}
	}
	file, err := os.Open(path)
	if err != nil {
		fix := ""
		if errors.Is(err, fs.ErrNotExist) {
			fix = "ask an operator for one: zonebroker token create"
		}
		return "", fault(err.Error(), fix, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", fault(err.Error(), "", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fault(fmt.Sprintf("%s has mode %04o; others can read it", path, info.Mode().Perm()), "chmod 0600 "+path, nil)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxToken+1))
	if err != nil {
		return "", fault(err.Error(), "", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || len(text) > maxToken {
		return "", fault(path+" holds no join token", "write the token that zonebroker token create printed into it", nil)
	}
	return token, nil
}
