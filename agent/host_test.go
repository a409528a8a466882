package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

func TestCoreAsksForProjectsAndFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		s.mustOrder(applyOrder("1", "shop", "1"))
		<-s.results
		var projects wire.Projects
		if err := s.peer.Call(t.Context(), wire.VerbProjects, nil, &projects); err != nil {
			t.Fatal(err)
		}
		if len(projects.Projects) != 1 || projects.Projects[0].Stack != "shop" || len(projects.Projects[0].Containers) == 0 {
			t.Errorf("projects %+v", projects)
		}
		stream, err := s.peer.OpenStream(t.Context(), wire.VerbFiles, wire.FilesRequest{Dir: "/etc", Files: []string{"shadow"}})
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(stream).Decode(&wire.HostFile{})
		if refusal, ok := errors.AsType[*wire.Error](err); !ok || refusal.Code != wire.CodeDenied {
			t.Errorf("files that the policy does not let core read: %v", err)
		}
	})
}

func TestAnOrderAsksCoreForItsRegistryAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		got := make(chan []wire.Login, 1)
		r.engine.Script("shop", func(ctx context.Context, order fleet.Order, blobs agent.Blobs, progress func(fleet.Progress)) fleet.Outcome {
			logins, err := blobs.Logins(ctx)
			if err != nil {
				t.Error(err)
			}
			got <- logins
			return r.engine.Apply(ctx, order, blobs, progress)
		})
		r.start()
		s := r.session()
		s.mustOrder(applyOrder("1", "shop", "1"))
		want := []wire.Login{{Registry: "registry.example", Username: "ci", Password: "secret"}}
		if diff := cmp.Diff(want, <-got); diff != "" {
			t.Errorf("logins (-want +got):\n%s", diff)
		}
		<-s.results
	})
}
