package agent_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/varanhq/varan/fleet"
)

// A host that wants signed commits has the last word: core gives it the commit, and it checks
// that it is the one that is deployed and who signed it.
func TestAHostThatWantsSignedCommitsRefusesOthers(t *testing.T) {
	const good, bad = "tree 1\n\nsigned\n", "tree 2\n\nunsigned\n"
	id := func(raw string) string {
		sum := sha1.Sum([]byte("commit " + fmt.Sprint(len(raw)) + "\x00" + raw))
		return hex.EncodeToString(sum[:])
	}
	for name, test := range map[string]struct {
		commit, given string
		kind          fleet.OrderKind
		reason        string
	}{
		"a signed commit":        {id(good), good, fleet.OrderApply, ""},
		"an unsigned commit":     {id(bad), bad, fleet.OrderApply, "this host accepts signed commits only, and commit " + id(bad)[:8] + " is not accepted: it is not signed"},
		"another commit":         {id(bad), good, fleet.OrderApply, "core gave another commit than it deploys"},
		"no commit":              {"", good, fleet.OrderApply, "what has no commit is not accepted"},
		"new images":             {id(bad), bad, fleet.OrderUpdate, "it is not signed"},
		"what brings no release": {id(bad), bad, fleet.OrderRemove, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.core.commit = []byte(test.given)
				r.cfg.Verify = func(raw []byte) (string, error) {
					if bytes.Contains(raw, []byte("unsigned")) {
						return "", errors.New("it is not signed")
					}
					return "ada", nil
				}
				r.start()
				s := r.session()
				order := applyOrder("1", "shop", "1")
				order.Kind, order.Release.Commit = test.kind, fleet.Commit{ID: test.commit}
				s.mustOrder(order)
				outcome := <-s.results
				if test.reason == "" {
					if outcome.Status != fleet.OutcomeSucceeded {
						t.Errorf("got %+v", outcome)
					}
					return
				}
				if outcome.Status != fleet.OutcomeFailed || !outcome.Untouched || !strings.Contains(outcome.Reason, test.reason) {
					t.Errorf("got %+v, want the reason %q", outcome, test.reason)
				}
				if done := r.engine.Orders(); len(done) > 0 {
					t.Errorf("the engine was given %+v", done)
				}
			})
		})
	}
}
