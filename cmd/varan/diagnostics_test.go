package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varanhq/varan/fleet"
)

func TestQuoteShowsTheLineAndThePlaceUnlessItMayHoldASecret(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "fleet.toml")
	text := "[[stack]]\nnäme = \"web\"\nPASSWORD = \"hunter22\"\nvalue = \"zq9\"\n\tnome = 1\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		line, col int
		rule      string
		want      string
	}{
		{2, 1, "unknown-key", "    2 | näme = \"web\"\n      | ^\n"},
		{2, 9, "type", "    2 | näme = \"web\"\n      |        ^\n"}, // columns count bytes
		{5, 2, "unknown-key", "    5 |  nome = 1\n      |  ^\n"},
		{3, 1, "unknown-key", ""},
		{4, 1, "unknown-key", ""},
		{2, 1, "plaintext-secret", ""},
		{99, 1, "type", ""},
		{1, 99, "type", ""},
	} {
		var out bytes.Buffer
		q := quoter{}
		q.quote(&out, style{}, fleet.Diagnostic{Rule: tc.rule, Position: fleet.Position{File: file, Line: tc.line, Col: tc.col}})
		if out.String() != tc.want {
			t.Errorf("%d:%d [%s]:\n%s\nwant\n%s", tc.line, tc.col, tc.rule, out.String(), tc.want)
		}
	}
	var out bytes.Buffer
	printDiagnostics(&out, fleet.Diagnostics{{Rule: "type", Severity: fleet.SeverityError, Message: "x\x1b[31m", Position: fleet.Position{File: file, Line: 1, Col: 1}}})
	if strings.ContainsAny(out.String(), "\x1b^") {
		t.Errorf("what is no terminal gets colours or lines: %q", out.String())
	}
}
