package exit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/fleet"
)

func TestRunMapsErrorsToCodesAndMessages(t *testing.T) {
	refused := errors.New("connection refused")
	cases := map[string]struct {
		err    error
		code   int
		stderr string
	}{
		"success":         {nil, exit.OK, ""},
		"a plain error":   {refused, exit.Failed, "varan: connection refused\n"},
		"an interruption": {fmt.Errorf("wait: %w", context.Canceled), exit.Interrupted, "varan: interrupted\n"},
		"a code without a message": {
			&exit.Error{Code: exit.Changes}, exit.Changes, "",
		},
		"a code with a hint": {
			&exit.Error{Code: exit.Unreachable, Err: refused, Hint: "is core running?"}, exit.Unreachable,
			"varan: connection refused\nhint: is core running?\n",
		},
		"a wrapped code keeps its context": {
			fmt.Errorf("ask core: %w", &exit.Error{Code: exit.Unreachable, Err: refused, Hint: "is core running?"}), exit.Unreachable,
			"varan: ask core: connection refused\nhint: is core running?\n",
		},
		"an error without a code": {&exit.Error{Err: refused}, exit.Failed, "varan: connection refused\n"},
		"wrong usage":             {exit.Usagef("unknown flag %q", "--x"), exit.Usage, "varan: unknown flag \"--x\"\n"},
		"diagnostics": {
			fleet.Diagnostics{{
				Rule: "unknown-key", Severity: fleet.SeverityError, Message: "unknown key \"nane\"", Hint: "did you mean \"name\"?",
				Position: fleet.Position{File: "a.toml", Line: 3, Col: 1},
			}},
			exit.Config,
			"varan: a.toml:3:1: error: unknown key \"nane\" [unknown-key]\nhint: did you mean \"name\"?\n",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := exit.Run("varan", &stderr, func() error { return tc.err }); code != tc.code {
				t.Errorf("code %d, want %d", code, tc.code)
			}
			if stderr.String() != tc.stderr {
				t.Errorf("stderr %q, want %q", stderr.String(), tc.stderr)
			}
		})
	}
}

func TestRunTurnsAPanicIntoAnInternalFault(t *testing.T) {
	var stderr bytes.Buffer
	code := exit.Run("varan", &stderr, func() error { panic("index out of range") })
	if code != exit.Internal {
		t.Errorf("code %d, want %d", code, exit.Internal)
	}
	for _, want := range []string{"varan: internal fault: index out of range", "exit_test.go", "hint: "} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("stderr lacks %q:\n%s", want, &stderr)
		}
	}
}
