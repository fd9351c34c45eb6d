package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// cloudRows is how many bad inputs the catalogue of cloud evidence has.
const cloudRows = 120

// TestEveryCloudRowIsNamed: each row of the catalogue is a test by its number,
// "row 16 PCR0 zero (debug)", somewhere in the tree.
func TestEveryCloudRowIsNamed(t *testing.T) {
	named := regexp.MustCompile("[\"`]rows? ([0-9]{1,3})(?:[-–]([0-9]{1,3}))?[ ,\"`]")
	have := map[int]bool{}
	for _, root := range []string{"../verifier", "../broker", "."} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range named.FindAllStringSubmatch(string(text), -1) {
				first, _ := strconv.Atoi(m[1])
				last := first
				if m[2] != "" {
					last, _ = strconv.Atoi(m[2])
				}
				for n := first; n <= min(last, cloudRows); n++ {
					have[n] = true
				}
			}
			return err
		})
		must(t, err)
	}
	var missing []int
	for n := 1; n <= cloudRows; n++ {
		if !have[n] {
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		t.Errorf("rows without a test of their name: %v", missing)
	}
	t.Logf("%d rows", len(have))
}
