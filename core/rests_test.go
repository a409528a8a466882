package core_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/wire"
)

// resting waits until the file of the agent says which stacks it leaves alone.
func (r *rig) resting(dir string, want ...wire.Rest) {
	r.t.Helper()
	var got wire.Rests
	r.eventually("the agent leaves alone what it should", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "rests.json"))
		got = wire.Rests{}
		return err == nil && json.Unmarshal(text, &got) == nil && cmp.Diff(want, got.List) == ""
	})
}

func TestAnAgentHearsWhatIsSuspended(t *testing.T) {
	r, srv := newRig(t), gitserver.New(t)
	srv.Commit(repository("app:1"), "first")
	_, err := r.SetVariable(t.Context(), "WEB_TOKEN", api.VariableSpec{Value: "x"})
	must(t, err)
	dir := t.TempDir()
	created, err := r.CreateOnboardingKey(t.Context(), api.OnboardingSpec{})
	must(t, err)
	r.serve(agent.Config{
		Dir: dir, Server: "alpha", Cores: []string{r.BaseURL}, OnboardingToken: created.Token.Secret(),
		Engine: fakeengine.New("alpha"), Logger: slog.New(slog.DiscardHandler),
	})
	_, err = r.AddSync(t.Context(), api.SyncSpec{Name: "main", URL: srv.URL(), AutoApply: true})
	must(t, err)
	r.settled("web", "Synced", srv.Git("", "rev-parse", "main"))

	_, err = r.Suspend(t.Context(), api.SuspendRequest{Resource: "web", Reason: "disk"})
	must(t, err)
	r.resting(dir, wire.Rest{Stack: "web"})
	_, err = r.Suspend(t.Context(), api.SuspendRequest{Resource: "sync/main"})
	must(t, err)
	_, err = r.Resume(t.Context(), "web")
	must(t, err)
	r.resting(dir, wire.Rest{Stack: "web"}) // by its sync now
	_, err = r.Suspend(t.Context(), api.SuspendRequest{Resource: "server/alpha"})
	must(t, err)
	_, err = r.Resume(t.Context(), "sync/main")
	must(t, err)
	r.resting(dir, wire.Rest{})
	_, err = r.Resume(t.Context(), "server/alpha")
	must(t, err)
	r.resting(dir)
}
