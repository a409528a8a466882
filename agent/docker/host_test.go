package docker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/agent/docker"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// inventory is a Docker Engine that only has lists, and remembers what it was asked to change.
type inventory struct {
	lists map[string]string // by the end of the path

	mu      sync.Mutex
	changes []string
}

func (i *inventory) serve(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.41") })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/") // the version
		if r.Method != http.MethodGet {
			i.mu.Lock()
			i.changes = append(i.changes, r.Method+" "+path)
			i.mu.Unlock()
		}
		w.Header().Set("Content-Type", "application/json")
		if list, ok := i.lists[path]; ok {
			fmt.Fprint(w, list)
			return
		}
		switch {
		case strings.HasPrefix(path, "images/") && r.Method == http.MethodDelete:
			fmt.Fprint(w, `[]`)
		case r.Method == http.MethodGet:
			http.Error(w, `{"message":"no such thing"}`, http.StatusNotFound)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return "tcp://" + strings.TrimPrefix(srv.URL, "http://")
}

func (i *inventory) changed() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	changes := slices.Clone(i.changes)
	i.changes = nil
	slices.Sort(changes)
	return changes
}

// openKnowing opens an engine that has the stack shop.
func openKnowing(t *testing.T, host string) *docker.Engine {
	t.Helper()
	dir := t.TempDir()
	raw, err := json.Marshal(map[string]any{"stack": "shop", "project": "shop", "stopped": true})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "releases"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "releases", "shop.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := docker.New(docker.Config{Server: "alpha", Dir: dir, Host: host, Worker: []string{os.Args[0]}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// labels of something that belongs to a stack of a server.
func labels(server, stack string) string {
	return fmt.Sprintf(`"Labels":{%q:%q,%q:%q,"com.docker.compose.project":%q}`,
		fleet.LabelServer, server, fleet.LabelStack, stack, stack)
}

func crowdedHost() *inventory {
	return &inventory{lists: map[string]string{
		"containers/json": `[
			{"Id":"c1","Names":["/idle"],"State":"exited","ImageID":"sha256:i1"},
			{"Id":"c2","Names":["/busy"],"State":"running","ImageID":"sha256:i2","NetworkSettings":{"Networks":{"used":{}}}},
			{"Id":"c3","Names":["/shop-job-1"],"State":"exited","ImageID":"sha256:i3",` + labels("alpha", "shop") + `},
			{"Id":"c4","Names":["/left-1"],"State":"exited","ImageID":"sha256:i3",` + labels("alpha", "left") + `},
			{"Id":"c5","Names":["/other-1"],"State":"exited","ImageID":"sha256:i3",` + labels("t", "other") + `},
			{"Id":"c6","Names":["/kept"],"State":"exited","ImageID":"sha256:i3","Labels":{"komodo.skip":""}}]`,
		"images/json": `[
			{"Id":"sha256:i1","RepoTags":["idle:1"],"Size":10},
			{"Id":"sha256:i2","RepoTags":["busy:1"],"Size":10},
			{"Id":"sha256:i7","RepoTags":["old:1","varan-rollback/shop-web:last-good"],"Size":10},
			{"Id":"sha256:i8","RepoTags":["unused:1","unused:2"],"Size":2048},
			{"Id":"sha256:i9","RepoTags":[],"Size":1024}]`,
		"networks": `[{"Id":"n0","Name":"bridge"},{"Id":"n1","Name":"used"},{"Id":"n2","Name":"free"},
			{"Id":"n3","Name":"shop_default",` + labels("alpha", "shop") + `},{"Id":"n4","Name":"left_default",` + labels("alpha", "left") + `}]`,
		"volumes": `{"Volumes":[{"Name":"free"},{"Name":"shop_data",` + labels("alpha", "shop") + `},
			{"Name":"left_data",` + labels("alpha", "left") + `},{"Name":"other_data",` + labels("t", "other") + `}]}`,
		"build/prune":          `{"CachesDeleted":["a","b"],"SpaceReclaimed":4096}`,
		"images/old:1/json":    `{"Id":"sha256:i7","RepoTags":["old:1","varan-rollback/shop-web:last-good"]}`,
		"images/busy:1/json":   `{"Id":"sha256:i2","RepoTags":["busy:1"]}`,
		"containers/c2/json":   `{"Id":"c2","Name":"/busy","Config":{}}`,
		"containers/busy/json": `{"Id":"c2","Name":"/busy","Config":{}}`,
	}}
}

func TestPruningKeepsWhatStacksAndRollbacksNeed(t *testing.T) {
	t.Parallel()
	for kind, want := range map[fleet.HostKind][]string{
		fleet.HostPruneContainers: {"DELETE containers/c1", "DELETE containers/c4"},
		fleet.HostPruneImages:     {"DELETE images/sha256:i9", "DELETE images/unused:1", "DELETE images/unused:2"},
		fleet.HostPruneNetworks:   {"DELETE networks/n2", "DELETE networks/n4"},
		fleet.HostPruneVolumes:    {"DELETE volumes/free", "DELETE volumes/left_data"},
		fleet.HostPruneBuildCache: {"POST build/prune"},
		fleet.HostPruneSystem: {
			"DELETE containers/c1", "DELETE containers/c4", "DELETE images/sha256:i9", "DELETE images/unused:1",
			"DELETE images/unused:2", "DELETE networks/n2", "DELETE networks/n4", "POST build/prune",
		},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			crowd := crowdedHost()
			e := openKnowing(t, crowd.serve(t))
			text, err := e.Host(t.Context(), fleet.HostTask{Kind: kind})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, crowd.changed()); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if kind == fleet.HostPruneImages && text != "removed 2 images, 3.0 KiB (1 kept for a rollback): i9, unused:1" {
				t.Errorf("said %q", text)
			}
		})
	}
}

func TestTasksOnContainersAndNames(t *testing.T) {
	t.Parallel()
	crowd := crowdedHost()
	e := openKnowing(t, crowd.serve(t))
	for _, tc := range []struct {
		task    fleet.HostTask
		said    string
		changes []string
		refused wire.Code
	}{
		{task: fleet.HostTask{Kind: fleet.HostRestartContainer, Target: "busy"}, said: "restarted busy", changes: []string{"POST containers/c2/restart"}},
		{task: fleet.HostTask{Kind: fleet.HostDestroyContainer, Target: "busy"}, said: "removed busy", changes: []string{"DELETE containers/c2", "POST containers/c2/stop"}},
		{task: fleet.HostTask{Kind: fleet.HostStopContainer, Target: "nobody"}, refused: wire.CodeNotFound},
		{task: fleet.HostTask{Kind: fleet.HostStopContainer}, refused: wire.CodeNotFound},
		{task: fleet.HostTask{Kind: fleet.HostStopAll}, said: "stopped 1 of 6 containers, 1 exempt: busy", changes: []string{"POST containers/c2/stop"}},
		{
			task: fleet.HostTask{Kind: fleet.HostStartAll}, said: "started 4 of 6 containers, 1 exempt: idle, left-1, other-1, shop-job-1",
			changes: []string{"POST containers/c1/start", "POST containers/c3/start", "POST containers/c4/start", "POST containers/c5/start"},
		},
		{task: fleet.HostTask{Kind: fleet.HostDeleteVolume, Target: "free"}, said: "deleted free", changes: []string{"DELETE volumes/free"}},
		{task: fleet.HostTask{Kind: fleet.HostDeleteImage, Target: "busy:1"}, said: "deleted busy:1", changes: []string{"DELETE images/busy:1"}},
		{task: fleet.HostTask{Kind: fleet.HostDeleteImage, Target: "old:1"}, refused: wire.CodeDenied},
		{task: fleet.HostTask{Kind: fleet.HostDeleteNetwork}, refused: wire.CodeBadRequest},
		{task: fleet.HostTask{Kind: "dance"}, refused: wire.CodeUnknownVerb},
	} {
		said, err := e.Host(t.Context(), tc.task)
		refused, _ := errors.AsType[*wire.Error](err)
		switch {
		case tc.refused == "" && (err != nil || said != tc.said):
			t.Errorf("%v: said %q, %v; want %q", tc.task, said, err, tc.said)
		case tc.refused != "" && (refused == nil || refused.Code != tc.refused):
			t.Errorf("%v: %v, want a refusal %q", tc.task, err, tc.refused)
		}
		if diff := cmp.Diff(tc.changes, crowd.changed()); diff != "" {
			t.Errorf("%v: changes (-want +got):\n%s", tc.task, diff)
		}
	}
}
