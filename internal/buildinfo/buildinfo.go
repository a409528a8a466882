// Package buildinfo says which build this is. Release builds set version and commit
// with -ldflags -X; others fall back on what the go tool recorded.
package buildinfo

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Set by the linker only:
//
//	-X github.com/varanhq/varan/internal/buildinfo.version=0.1.0
//	-X github.com/varanhq/varan/internal/buildinfo.commit=0123456789ab
var version, commit string

// Version is like "0.1.0", without a leading v, or "devel" for a plain go build.
func Version() string {
	if version != "" {
		return strings.TrimPrefix(version, "v")
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return strings.TrimPrefix(info.Main.Version, "v")
}

// Commit is the short id of the commit that was built, with "-dirty" behind it when
// the tree had changes, or "" when it is not known.
func Commit() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var revision, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return ""
	}
	return revision + dirty
}

// String is like "0.1.0 (0123456789ab, go1.26.3, linux/amd64)".
func String() string {
	detail := fmt.Sprintf("%s, %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if c := Commit(); c != "" {
		detail = c + ", " + detail
	}
	return fmt.Sprintf("%s (%s)", Version(), detail)
}
