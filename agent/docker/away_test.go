package docker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/varanhq/varan/agent/docker"
	"github.com/varanhq/varan/agent/docker/job"
	"github.com/varanhq/varan/fleet"
)

// fakeWorker plays a worker that goes wrong in some way.
func fakeWorker(mode string) int {
	var req job.Request
	if err := json.NewDecoder(os.Stdin).Decode(&req); err != nil {
		return 1
	}
	switch mode {
	case "exits": // as docker/cli does when it cannot go on
		fmt.Fprintln(os.Stderr, "Failed to initialize: no such context")
		return 1
	case "babbles":
		fmt.Println("not a line of ours")
		fmt.Println(`{"event":{"id":"Container x","text":"Starting"}}`)
		fmt.Println(`{"result":{"error":"words of the SDK"}}`)
	}
	return 0
}

// fakeDocker answers what the engine asks before it starts a worker: nothing runs, every
// image is there.
func fakeDocker(t *testing.T, events http.HandlerFunc) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.41") })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/containers/json"):
			fmt.Fprint(w, `[]`)
		case strings.HasSuffix(r.URL.Path, "/events") && events != nil:
			events(w, r)
		default:
			fmt.Fprint(w, `{"Id":"sha256:x","Version":"20.10.24","ApiVersion":"1.41"}`)
		}
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return "tcp://" + strings.TrimPrefix(srv.URL, "http://")
}

func openEngine(t *testing.T, host string, worker ...string) (e *docker.Engine, dir string) {
	t.Helper()
	dir = t.TempDir()
	e, err := docker.New(docker.Config{Server: "alpha", Dir: dir, Host: host, Worker: append([]string{os.Args[0]}, worker...)})
	if err != nil {
		t.Fatal(err)
	}
	return e, dir
}

// simple is an order with one service.
func simple(blobs memoryBlobs) fleet.Order {
	r := fleet.Release{
		Digest: "sha256:r", Stack: "web", Server: "alpha", Project: "web",
		Model:    blobs.add("services: {web: {image: 'app:1'}}\n"),
		Services: []fleet.Service{{Name: "web", Replicas: 1}},
	}
	return fleet.Order{ID: "o", Kind: fleet.OrderApply, Stack: "web", Server: "alpha", Project: "web", Release: r}
}

func TestWorkerThatGoesWrongIsAFailure(t *testing.T) {
	for mode, want := range map[string]string{"exits": "no such context", "babbles": "words of the SDK"} {
		e, dir := openEngine(t, fakeDocker(t, nil), "fake-worker", mode)
		blobs := memoryBlobs{}
		out := e.Do(t.Context(), simple(blobs), blobs, nil)
		if out.Status != fleet.OutcomeFailed || !strings.Contains(out.Reason, want) {
			t.Errorf("%s: outcome %+v, want the words %q", mode, out, want)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*", "*.tmp")); len(left) > 0 {
			t.Errorf("%s: litter %v", mode, left)
		}
	}
}

func TestEngineAwayIsRetryableAndTouchesNothing(t *testing.T) {
	e, dir := openEngine(t, "unix:///nonexistent/docker.sock", "fake-worker", "exits")
	blobs := memoryBlobs{}
	out := e.Do(t.Context(), simple(blobs), blobs, nil)
	if out.Status != fleet.OutcomeFailed || !out.Retryable || !out.Untouched || out.Hint == "" {
		t.Errorf("outcome %+v", out)
	}
	info, _, err := e.Observe(t.Context())
	if err == nil || info.EngineError == "" || info.Hostname == "" {
		t.Errorf("info %+v, err %v", info, err)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "stacks")); len(entries) > 0 {
		t.Errorf("files were placed: %v", entries)
	}
}

func TestOrdersForOthersAreRefused(t *testing.T) {
	e, dir := openEngine(t, fakeDocker(t, nil), "fake-worker", "exits")
	for name, change := range map[string]func(*fleet.Order){
		"another server":          func(o *fleet.Order) { o.Server = "beta" },
		"no id":                   func(o *fleet.Order) { o.ID = "" },
		"no project name":         func(o *fleet.Order) { o.Project = "../x" },
		"another stack's release": func(o *fleet.Order) { o.Release.Stack = "other" },
	} {
		o := simple(memoryBlobs{})
		change(&o)
		if out := e.Do(t.Context(), o, nil, nil); out.Status != fleet.OutcomeFailed || !out.Untouched || out.Retryable {
			t.Errorf("%s: %+v", name, out)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "journal")); len(entries) > 0 {
		t.Errorf("refused orders are in the journal: %v", entries)
	}
}

func TestUnknownKindIsRefusedWithAHint(t *testing.T) {
	e, _ := openEngine(t, fakeDocker(t, nil), "fake-worker", "exits")
	o := simple(memoryBlobs{})
	o.Kind = "defragment"
	if out := e.Do(t.Context(), o, nil, nil); out.Status != fleet.OutcomeFailed || !out.Untouched || out.Hint == "" {
		t.Errorf("outcome %+v", out)
	}
}

func TestWatchComesBackWithTheEngine(t *testing.T) {
	var streams atomic.Int32
	host := fakeDocker(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		if streams.Add(1) == 1 {
			return // the engine goes away
		}
		fmt.Fprintf(w, `{"Type":"container","Action":"start","Actor":{"ID":"c","Attributes":{%q:"alpha",%q:"web"}}}`, fleet.LabelServer, fleet.LabelStack)
		fmt.Fprintf(w, `{"Type":"container","Action":"start","Actor":{"ID":"d","Attributes":{%q:"beta",%q:"other"}}}`, fleet.LabelServer, fleet.LabelStack)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	e, _ := openEngine(t, host, "fake-worker", "exits")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan string)
	done := make(chan error, 1)
	go func() {
		done <- e.Watch(ctx, func(stack string) {
			select {
			case told <- stack:
			case <-ctx.Done():
			}
		})
	}()
	// Connected, gone, connected again; then only what is ours.
	for _, want := range []string{"", "", "", "web"} {
		if got := <-told; got != want {
			t.Fatalf("told of %q, want %q", got, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
