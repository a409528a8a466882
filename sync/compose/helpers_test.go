package compose_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

// tree is a repository in memory that follows no symbolic link.
type tree struct{ fstest.MapFS }

func (t tree) Stat(name string) (fs.FileInfo, error) { return t.Lstat(name) }

func (tree) ObjectID(name string) (string, error) {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:]), nil
}

// files makes a tree of plain files.
func files(content map[string]string) tree {
	t := tree{fstest.MapFS{}}
	for name, text := range content {
		t.MapFS[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return t
}

func request(t tree) compose.Request {
	return compose.Request{
		Tree: t, Stack: "web", Server: "alpha", Project: "web", Key: []byte("a key for tests"),
		Origin: fleet.Position{File: "stacks.toml", Line: 7, Col: 1},
	}
}

// one is a request for a stack of a single Compose file.
func one(text string) compose.Request {
	return request(files(map[string]string{"compose.yaml": text}))
}

// mustLoad loads a stack that has no fault.
func mustLoad(tb testing.TB, req compose.Request) compose.Result {
	tb.Helper()
	result, findings := compose.Load(tb.Context(), req)
	if findings.HasErrors() {
		tb.Fatalf("Load: %v", findings)
	}
	return result
}

// blob is the content of a digest of a result.
func blob(tb testing.TB, result compose.Result, req compose.Request, digest fleet.Digest) string {
	tb.Helper()
	b, ok := result.Content[digest]
	if !ok {
		tb.Fatalf("no blob for %s", digest)
	}
	data, err := b.Bytes(req.Tree)
	if err != nil {
		tb.Fatal(err)
	}
	if fleet.SumDigest(data) != digest {
		tb.Fatalf("content of %s does not match its digest", digest)
	}
	return string(data)
}

// service returns one service of a result.
func service(tb testing.TB, result compose.Result, name string) fleet.Service {
	tb.Helper()
	s, ok := result.Release.Service(name)
	if !ok {
		tb.Fatalf("no service %s", name)
	}
	return s
}

// fieldOf returns one field of a service.
func fieldOf(tb testing.TB, s fleet.Service, path string) fleet.Field {
	tb.Helper()
	for _, f := range s.Fields {
		if f.Path == path {
			return f
		}
	}
	tb.Fatalf("service %s has no field %s; it has %s", s.Name, path, fieldPaths(s))
	return fleet.Field{}
}

func fieldPaths(s fleet.Service) string {
	var paths []string
	for _, f := range s.Fields {
		paths = append(paths, f.Path)
	}
	return strings.Join(paths, ", ")
}

// wantFinding checks that a diagnostic of the rule is at "file:line:col".
func wantFinding(tb testing.TB, findings fleet.Diagnostics, severity fleet.Severity, rule, place string) {
	tb.Helper()
	for _, d := range findings {
		if d.Rule == rule && d.Severity == severity && (place == "" || d.Position.String() == place) {
			return
		}
	}
	var got strings.Builder
	for _, d := range findings {
		fmt.Fprintf(&got, "\n  %s", d)
	}
	tb.Errorf("no %s [%s] at %s; found:%s", severity, rule, place, got.String())
}
