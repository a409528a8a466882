package lowmem_test

import (
	"bytes"
	"os"
	"strconv"
	"testing"

	"github.com/varanhq/varan/internal/lowmem"
)

func TestTrimGivesMemoryBackAndTheProgramGoesOn(t *testing.T) {
	before := filePages(t)
	lowmem.Trim()
	after := filePages(t)
	if after >= before {
		t.Errorf("%d kB of the program's file were resident before, %d after", before, after)
	}
	lowmem.Trim()
}

// filePages is how much of files is mapped and resident, in kB.
func filePages(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		fields := bytes.Fields(line)
		if len(fields) > 1 && string(fields[0]) == "RssFile:" {
			kb, err := strconv.Atoi(string(fields[1]))
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatal("no RssFile in /proc/self/status")
	return 0
}
