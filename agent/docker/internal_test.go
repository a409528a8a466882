package docker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"pgregory.net/rapid"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// content is a fleet.File and what is in it.
func content(path, text string, secret bool) (fleet.File, string) {
	return fleet.File{Path: path, Mode: 0o644, Size: int64(len(text)), Digest: fleet.SumDigest([]byte(text)), Secret: secret}, text
}

// placing makes a release of files and the function that gives their content.
func placing(files map[string]string) (*fleet.Release, func(fleet.Digest) ([]byte, error)) {
	r, known := &fleet.Release{}, map[fleet.Digest]string{}
	for path, text := range files {
		f, text := content(path, text, strings.HasSuffix(path, ".env"))
		r.Files, known[f.Digest] = append(r.Files, f), text
	}
	return r, func(d fleet.Digest) ([]byte, error) { return []byte(known[d]), nil }
}

// placeAll is placer.place with plain content.
func placeAll(t *testing.T, dir string, r *fleet.Release, before []string, get func(fleet.Digest) ([]byte, error)) error {
	t.Helper()
	root, err := openDir(dir, ".", true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	p := &placer{root: root, content: func(f fleet.File) ([]byte, bool, error) {
		b, err := get(f.Digest)
		return b, false, err
	}}
	return p.place(r, before)
}

func TestPlaceRemovesWhatAnAgentLeftThatDied(t *testing.T) {
	dir := t.TempDir()
	old, now := time.Now().Add(-2*time.Hour), time.Now()
	var want []string
	for name, at := range map[string]time.Time{
		tempName("conf/b"):  old, // gone
		tempName("conf/c"):  now, // another stack is writing it
		"conf/.varan-notes": old,
	} {
		if err := os.MkdirAll(filepath.Join(dir, "conf"), 0o700); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chtimes(file, at, at)); err != nil {
			t.Fatal(err)
		}
		if at.Equal(now) || strings.HasSuffix(name, "notes") {
			want = append(want, filepath.Base(name))
		}
	}
	r, get := placing(map[string]string{"conf/b": "2"})
	if err := placeAll(t, dir, r, nil, get); err != nil {
		t.Fatal(err)
	}
	var got []string
	entries, err := os.ReadDir(filepath.Join(dir, "conf"))
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if diff := cmp.Diff(slices.Sorted(slices.Values(append(want, "b"))), got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestPlaceFollowsTheReleaseAndLeavesOtherFilesAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	first, get := placing(map[string]string{"a": "1", "conf/b": "2", "turns/into/dir": "3", "x.env": "S=1"})
	if err := placeAll(t, dir, first, nil, get); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "conf", "theirs"), []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	second, get := placing(map[string]string{"a": "1", "turns": "file now", "x.env": "S=2"})
	if err := placeAll(t, dir, second, paths(first), get); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(filepath.Join(dir, "a"))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("an unchanged file was written again: %v", err)
	}
	got := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		got[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "1", "turns": "file now", "x.env": "S=2", "conf/theirs": "data"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("run directory (-want +got):\n%s", diff)
	}
	for name, mode := range map[string]os.FileMode{"a": 0o644, "x.env": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, want %v (%v)", name, info.Mode().Perm(), mode, err)
		}
	}
}

func TestPlaceNeverLeavesTheRunDirectory(t *testing.T) {
	outside := t.TempDir()
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"../up", "/abs", "link/file", "a/../../b", "", ".", "a//b", "link/../../x"} {
		r, get := placing(map[string]string{path: "evil"})
		if err := placeAll(t, dir, r, nil, get); err == nil {
			t.Errorf("%q was placed", path)
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Errorf("something was written outside: %v", entries)
	}
	// Nor does removing follow a link out.
	if err := os.WriteFile(filepath.Join(outside, "keep"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r, get := placing(nil)
	if err := placeAll(t, dir, r, []string{"link/keep"}, get); err == nil {
		t.Error("removing through a link gave no error")
	}
	if _, err := os.Stat(filepath.Join(outside, "keep")); err != nil {
		t.Error("a file outside was removed")
	}
}

// liar serves blobs in some wrong way.
type liar func(digests []fleet.Digest, each func(fleet.Digest, []byte) error) error

func (l liar) Fetch(_ context.Context, digests []fleet.Digest, each func(fleet.Digest, []byte) error) error {
	return l(digests, each)
}

func TestFetchedContentIsVerified(t *testing.T) {
	good := []byte("model")
	r := &fleet.Release{Model: fleet.SumDigest(good)}
	for name, from := range map[string]liar{
		"changed content": func(d []fleet.Digest, each func(fleet.Digest, []byte) error) error { return each(d[0], []byte("evil")) },
		"not asked for": func(_ []fleet.Digest, each func(fleet.Digest, []byte) error) error {
			return each(fleet.SumDigest([]byte("x")), []byte("x"))
		},
		"nothing":  func([]fleet.Digest, func(fleet.Digest, []byte) error) error { return nil },
		"an error": func([]fleet.Digest, func(fleet.Digest, []byte) error) error { return errors.New("gone") },
		"twice": func(d []fleet.Digest, each func(fleet.Digest, []byte) error) error {
			return errors.Join(each(d[0], good), each(d[0], good))
		},
	} {
		b := blobs{dir: t.TempDir()}
		if err := b.fetch(t.Context(), r, from); err == nil {
			t.Errorf("%s: believed", name)
		}
	}
	b := blobs{dir: t.TempDir()}
	if err := b.fetch(t.Context(), &fleet.Release{Model: "sha256:../../etc/passwd"}, nil); err == nil {
		t.Error("a malformed digest was looked up")
	}
	honest := liar(func(d []fleet.Digest, each func(fleet.Digest, []byte) error) error { return each(d[0], good) })
	if err := b.fetch(t.Context(), r, honest); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.path(r.Model), []byte("rotten"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.get(r.Model); err == nil {
		t.Error("a damaged blob was used")
	}
	if err := b.fetch(t.Context(), r, honest); err != nil {
		t.Errorf("a damaged blob was not fetched again: %v", err)
	}
}

func TestJournalSurvivesAndForgetsTheOldest(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for i := range keepOutcomes + 3 {
		r, err := j.begin(fleet.Order{ID: fmt.Sprint("o", i), Stack: "s"}, at.Add(time.Duration(i)*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if err := j.finish(r, fleet.Outcome{Order: r.Order.ID, Reason: "r"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"late", "early"} {
		if _, err := j.begin(fleet.Order{ID: id, Stack: id}, at.Add(-time.Duration(len(id))*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if j, err = openJournal(dir); err != nil {
		t.Fatal(err)
	}
	if r, err := j.find("o2"); r != nil || err != nil {
		t.Errorf("the oldest outcome is still there: %+v, %v", r, err)
	}
	if r, err := j.begin(fleet.Order{ID: "o3"}, at); err != nil || r.Outcome == nil || r.Outcome.Reason != "r" {
		t.Errorf("an outcome was lost: %+v, %v", r, err)
	}
	open, err := j.pending("")
	if err != nil || len(open) != 2 || open[0].Order.ID != "early" {
		t.Errorf("pending %+v, %v; want early before late", open, err)
	}
}

func TestStateIsOneValueAtATime(t *testing.T) {
	dir := t.TempDir()
	s, err := openStates(dir)
	if err != nil {
		t.Fatal(err)
	}
	held := s.get("web shop/1")
	for i := range maxBad + 2 {
		err := s.update("web shop/1", func(st *state) {
			st.Bad = st.withBad(fleet.BadRelease{Release: fleet.SumDigest([]byte{byte(i)})})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(held.Bad) > 0 {
		t.Error("a value that was handed out changed")
	}
	if s, err = openStates(dir); err != nil {
		t.Fatal(err)
	}
	st := s.get("web shop/1")
	if _, known := st.bad(fleet.SumDigest([]byte{maxBad + 1})); len(st.Bad) != maxBad || !known {
		t.Errorf("%d bad releases, newest known: %t", len(st.Bad), known)
	}
	if err := os.WriteFile(filepath.Join(dir, "torn.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openStates(dir); err == nil {
		t.Error("a torn state was passed over in silence")
	}
}

func TestFileNamesAreSafeAndTellNamesApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		if a == "" || b == "" {
			return
		}
		name := fileName(a)
		if !filepath.IsLocal(name) || filepath.Base(name) != name || strings.HasPrefix(name, ".") || strings.ContainsAny(name, ":*?\\ ") || len(name) > 200 {
			t.Fatalf("%q became %q", a, name)
		}
		if (a == b) != (name == fileName(b)) {
			t.Fatalf("%q and %q became %q and %q", a, b, name, fileName(b))
		}
	})
	if fileName("web-shop_1.x") != "web-shop_1.x" {
		t.Error("an ordinary name was changed")
	}
}

func TestHoldRefsAreReferencesAndApart(t *testing.T) {
	if got := holdRef("shop", "web"); got != "varan-rollback/shop-web:last-good" {
		t.Errorf("plain names became %s", got)
	}
	if holdRef("shop", "my_web") == holdRef("shop", "my-web") {
		t.Error("two services share a tag")
	}
	for _, service := range []string{"A", "_", "x__y", "a.b-", "-"} {
		ref := strings.TrimSuffix(strings.TrimPrefix(holdRef("p_-", service), "varan-rollback/"), ":last-good")
		if strings.Trim(ref, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.Contains(ref, "--") || strings.HasSuffix(ref, "-") {
			t.Errorf("%s became %s", service, ref)
		}
	}
}

func TestPullErrorsAreSortedByWhetherTryingAgainHelps(t *testing.T) {
	for reason, want := range map[string]bool{
		"manifest for app:9 not found: manifest unknown: manifest unknown":                       false,
		"pull access denied for app, repository does not exist or may require 'docker login'":    false,
		"Head https://r.io/v2/: unauthorized: authentication required":                           false,
		"Get https://r.io/v2/: dial tcp: lookup r.io: no such host":                              true,
		"Get https://r.io/v2/: net/http: request canceled (Client.Timeout exceeded)":             true,
		"toomanyrequests: You have reached your pull rate limit":                                 true,
		"received unexpected HTTP status: 503 Service Unavailable":                               true,
		"something nobody has seen before":                                                       true,
		"no matching manifest for linux/arm64/v8 in the manifest list entries":                   false,
		"error parsing HTTP 403 response body: denied: requested access to the resource: denied": false,
	} {
		if got := retryablePull(reason); got != want {
			t.Errorf("%q: retryable %t, want %t", reason, got, want)
		}
	}
}

// at is a time in the test's own count of seconds.
func at(seconds float64) time.Time {
	return time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

func TestVerdict(t *testing.T) {
	running := live{Container: fleet.Container{ID: "new", Name: "web-1", Service: "web", Digest: "d", State: fleet.StateRunning, Health: fleet.HealthNone, StartedAt: at(0)}}
	with := func(change func(*live)) live {
		l := running
		change(&l)
		return l
	}
	state := func(s fleet.ContainerState, code int) live {
		return with(func(l *live) { l.State, l.ExitCode = s, code })
	}
	health := func(h fleet.ContainerHealth) live { return with(func(l *live) { l.Health = h }) }
	crashes := func(n int) live { return with(func(l *live) { l.RestartCount, l.State = n, fleet.StateRestarting }) }
	ended := func(n int) live {
		return with(func(l *live) { l.RestartCount, l.State, l.ExitCode = n, fleet.StateRestarting, 7 })
	}
	again := func(n int) live { return with(func(l *live) { l.RestartCount, l.StartedAt = n, at(0.5) }) }
	cases := map[string]struct {
		oneShot bool
		before  []live
		looks   []live
		every   float64
		want    string // "ok", "wait" or part of the failure
	}{
		"a new container is watched first":         {looks: []live{running}, want: "wait"},
		"one that keeps running is well":           {looks: []live{running, running}, every: 1, want: "ok"},
		"one that ran before needs no watching":    {before: []live{running}, looks: []live{running}, want: "ok"},
		"a restart begins the watching anew":       {looks: []live{running, with(func(l *live) { l.StartedAt, l.RestartCount = at(0.5), 1 })}, every: 1, want: "wait"},
		"two crashes may happen":                   {looks: []live{crashes(2)}, want: "wait"},
		"three crashes are a loop":                 {looks: []live{crashes(3)}, want: "3 times"},
		"the code is that of the last end":         {looks: []live{ended(2), again(3)}, want: "code 7, 3 times"},
		"one that was seen up only is waited for":  {looks: []live{again(3)}, want: "wait"},
		"its code is told once it ends":            {looks: []live{again(3), ended(3)}, want: "code 7, 3 times"},
		"but it has failed in any case":            {looks: []live{again(3), again(3)}, every: 1, want: "was restarted 3 times"},
		"crashes of before do not count":           {before: []live{crashes(7)}, looks: []live{crashes(8)}, want: "wait"},
		"a service that ends has failed":           {looks: []live{state(fleet.StateExited, 0)}, want: "exited with code 0"},
		"a one-shot that ends well is done":        {oneShot: true, looks: []live{state(fleet.StateExited, 0)}, want: "ok"},
		"a one-shot that ends badly has failed":    {oneShot: true, looks: []live{state(fleet.StateExited, 9)}, want: "exited with code 9"},
		"a one-shot that runs is waited for":       {oneShot: true, looks: []live{running, running}, every: 60, want: "wait"},
		"one never started has failed":             {looks: []live{state(fleet.StateCreated, 0)}, want: "never started"},
		"a paused one has failed":                  {looks: []live{state(fleet.StatePaused, 0)}, want: "paused"},
		"one starting its check is waited for":     {looks: []live{health(fleet.HealthStarting), health(fleet.HealthStarting)}, every: 60, want: "wait"},
		"an unhealthy one has failed":              {looks: []live{health(fleet.HealthUnhealthy)}, want: "health check"},
		"one unhealthy before gets time":           {before: []live{health(fleet.HealthUnhealthy)}, looks: []live{health(fleet.HealthUnhealthy)}, want: "wait"},
		"but not for ever":                         {before: []live{running}, looks: []live{running, health(fleet.HealthUnhealthy)}, every: 60, want: "health check"},
		"one that was not recreated has failed":    {looks: []live{with(func(l *live) { l.Digest = "old" })}, want: "not recreated"},
		"a missing one has failed":                 {looks: []live{with(func(l *live) { l.Service = "other" })}, want: "0 of 1"},
		"one started by hand does not count":       {looks: []live{with(func(l *live) { l.oneOff = true })}, want: "0 of 1"},
		"a healthy one is watched for restarts":    {looks: []live{health(fleet.HealthHealthy)}, want: "wait"},
		"a started one of before is watched again": {before: []live{state(fleet.StateExited, 0)}, looks: []live{running}, want: "wait"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			j := newJury([]fleet.Service{{Name: "web", Digest: "d", Replicas: 1, OneShot: c.oneShot}}, nil, c.before, time.Second, at(0))
			got := ""
			for i, l := range c.looks {
				waits, f := j.judge([]live{l}, at(float64(i)*c.every))
				switch {
				case f != nil:
					got = f.Reason
				case len(waits) > 0:
					got = "wait"
				default:
					got = "ok"
				}
			}
			if got != c.want && (c.want == "ok" || c.want == "wait" || !strings.Contains(got, c.want)) {
				t.Errorf("verdict %q, want %q", got, c.want)
			}
		})
	}
	j := newJury([]fleet.Service{{Name: "web", Replicas: 1}, {Name: "off"}}, []string{"web"}, nil, time.Second, at(0))
	if waits, f := j.judge(nil, at(0)); f != nil || len(waits) > 0 {
		t.Errorf("an ignored service or one without containers was judged: %v, %v", waits, f)
	}
}

// inspected is a container as Docker tells of it.
func inspected(change func(*container.InspectResponse)) *container.InspectResponse {
	c := &container.InspectResponse{
		ID: "one", Name: "/web-1", Image: "sha256:i",
		State: &container.State{Status: container.StateRunning},
		Config: &container.Config{
			Image: "app:1", Env: []string{"TOKEN=hunter2", "EMPTY="}, Cmd: []string{"serve", "--token=hunter2"},
			Labels: map[string]string{labelService: "web", labelNumber: "1", "mine": "hunter2"},
		},
		HostConfig: &container.HostConfig{Resources: container.Resources{Memory: 1 << 20}, CapDrop: []string{"B", "A"}},
		Mounts:     []container.MountPoint{{Type: "volume", Name: "d", Source: "/var/lib/docker/volumes/d", Destination: "/d", RW: true}},
	}
	if change != nil {
		change(c)
	}
	return c
}

func TestContainerPutThereDuringAnOrderStaysDrift(t *testing.T) {
	e := &Engine{key: []byte("key"), states: &states{}}
	release := &fleet.Release{Digest: "r"}
	deployed := e.look(inspected(nil))
	mine := task{order: fleet.Order{ID: "first"}}
	st := &state{Good: release, Baseline: mine.baselines(release, []live{deployed}, &state{})}

	intruder := e.look(inspected(func(c *container.InspectResponse) {
		c.ID, c.Config.Env = "two", []string{"BY_HAND=1"}
		c.Config.Labels[fleet.LabelOrder] = "first"
	}))
	heal := task{order: fleet.Order{ID: "second"}}
	st.Baseline = heal.baselines(release, []live{intruder}, st)
	if len(drift(&intruder, st)) == 0 {
		t.Error("a container that the order did not make was taken for what should run")
	}

	healed := e.look(inspected(func(c *container.InspectResponse) {
		c.ID = "three"
		c.Config.Labels[fleet.LabelOrder] = "second"
	}))
	st.Baseline = heal.baselines(release, []live{healed}, st)
	if d := drift(&healed, st); len(d) > 0 {
		t.Errorf("what the order made itself is drift: %+v", d)
	}
}

func TestDriftNamesWhatChangedAndTellsNoSecret(t *testing.T) {
	e := &Engine{key: []byte("key"), states: &states{}}
	deployed := e.look(inspected(nil))
	st := &state{Baseline: (&task{}).baselines(&fleet.Release{}, []live{deployed}, &state{})}
	if d := drift(&deployed, st); len(d) > 0 {
		t.Errorf("drift of what was deployed: %+v", d)
	}
	if text := fmt.Sprint(st); strings.Contains(text, "hunter2") {
		t.Errorf("the recorded baseline tells a secret: %s", text)
	}
	cases := map[string]struct {
		change func(*container.InspectResponse)
		want   []fleet.Drift
	}{
		"memory": {func(c *container.InspectResponse) { c.HostConfig.Memory = 2 << 20 }, []fleet.Drift{{Field: "memory", Want: "1048576", Have: "2097152"}}},
		"environment": {func(c *container.InspectResponse) { c.Config.Env = []string{"TOKEN=other", "NEW=x", "EMPTY="} }, []fleet.Drift{
			{Field: "environment.NEW"}, {Field: "environment.TOKEN"},
		}},
		"command":    {func(c *container.InspectResponse) { c.Config.Cmd[1] = "--token=x" }, []fleet.Drift{{Field: "command"}}},
		"label":      {func(c *container.InspectResponse) { c.Config.Labels["mine"] = "x" }, []fleet.Drift{{Field: "labels.mine"}}},
		"mount":      {func(c *container.InspectResponse) { c.Mounts = nil }, []fleet.Drift{{Field: "mounts./d", Want: "volume d rw=true"}}},
		"caps order": {func(c *container.InspectResponse) { slices.Reverse(c.HostConfig.CapDrop) }, nil},
		"restarted":  {func(c *container.InspectResponse) { c.RestartCount, c.State.StartedAt = 4, "2026-11-01T00:00:00Z" }, nil},
		"our labels": {func(c *container.InspectResponse) { c.Config.Labels[fleet.LabelCommit] = "x" }, nil},
		"renamed":    {func(c *container.InspectResponse) { c.Name = "/0123456789ab_web-1" }, nil},
		"replaced":   {func(c *container.InspectResponse) { c.ID = "two" }, []fleet.Drift{{Field: "container", Want: "one", Have: "two"}}},
		"privileged": {func(c *container.InspectResponse) { c.HostConfig.Privileged = true }, []fleet.Drift{{Field: "privileged", Have: "true"}}},
		"unknown service is adopted": {func(c *container.InspectResponse) {
			c.ID, c.Config.Labels[labelService] = "two", "new"
		}, nil},
	}
	for name, c := range cases {
		l := e.look(inspected(c.change))
		if diff := cmp.Diff(c.want, drift(&l, st)); diff != "" {
			t.Errorf("%s: drift (-want +got):\n%s", name, diff)
		}
	}
	if d := drift(&deployed, &state{}); len(d) > 0 {
		t.Errorf("without a record there is drift: %+v", d)
	}
}

func TestHealthOfOldEnginesIsReadFromWords(t *testing.T) {
	for status, want := range map[string]fleet.ContainerHealth{
		"Up 3 minutes (healthy)":             fleet.HealthHealthy,
		"Up 3 minutes (unhealthy)":           fleet.HealthUnhealthy,
		"Up 2 seconds (health: starting)":    fleet.HealthStarting,
		"Up 2 seconds":                       fleet.HealthNone,
		"Restarting (1) Less than a second":  fleet.HealthNone,
		"Exited (137) 2 hours ago (healthy?": fleet.HealthNone,
	} {
		if got := healthOf(&container.Summary{Status: status}); got != want {
			t.Errorf("%q: %s, want %s", status, got, want)
		}
	}
}

func TestMemoryIsGoodOnlyWhileEventsArrive(t *testing.T) {
	item := &container.Summary{ID: "x", State: container.StateRunning}
	l := live{Container: fleet.Container{ID: "x", State: fleet.StateRunning, Health: fleet.HealthNone}, stack: "s"}
	m := &memory{}
	recalls := func() bool { _, ok := m.recall(item); return ok }
	m.keep(m.now(), l)
	if recalls() {
		t.Error("remembered while nobody listens")
	}
	m.listen(true)
	old := m.now()
	m.forget("x")
	m.keep(old, l)
	if recalls() {
		t.Error("an inspection that raced with an event was kept")
	}
	m.keep(m.now(), l)
	if !recalls() {
		t.Error("not remembered")
	}
	if stack, ok := m.stackOf("x"); stack != "s" || !ok {
		t.Errorf("stack %q, %t", stack, ok)
	}
	item.State = container.StateExited
	if recalls() {
		t.Error("remembered although the list says otherwise")
	}
	item.State = container.StateRunning
	m.listen(false)
	if recalls() {
		t.Error("remembered after the events ended")
	}
	var none *memory
	none.keep(none.now(), l)
	if _, ok := none.recall(item); ok {
		t.Error("no memory remembers")
	}
}

// frame is one frame of Docker's log stream.
func frame(stream byte, text string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{stream, 0, 0, 0}, uint32(len(text)))
	return append(b, text...)
}

func TestLogStreamIsTakenApart(t *testing.T) {
	stream := slices.Concat(frame(1, "one\nhal"), frame(2, "err\r\n"), frame(1, "f\n"), frame(1, strings.Repeat("x", maxLogLine+10)+"\n"), frame(1, "\xff no end"))
	var got []string
	err := splitLog(bytes.NewReader(stream), false, func(stderr bool, line string) error {
		got = append(got, fmt.Sprintf("%t %s", stderr, line))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"false one", "true err", "false half", "false " + strings.Repeat("x", maxLogLine), "false \uFFFD no end"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	full := errors.New("full")
	if err := splitLog(bytes.NewReader(stream), false, func(bool, string) error { return full }); !errors.Is(err, full) {
		t.Errorf("err %v, want the writer's", err)
	}
}

func FuzzSplitLog(f *testing.F) {
	f.Add(slices.Concat(frame(1, "a\nb"), frame(2, "c\n")), false)
	f.Add([]byte("plain\n"), true)
	f.Fuzz(func(t *testing.T, stream []byte, tty bool) {
		if len(stream) > 7 && stream[4] > 0 {
			return // a frame of 16 MiB and more is not what is looked for
		}
		_ = splitLog(bytes.NewReader(stream), tty, func(_ bool, line string) error {
			if len(line) > 3*maxLogLine || strings.Contains(line, "\n") {
				t.Errorf("line of %d bytes", len(line))
			}
			return nil
		})
	})
}

func TestWorkerEnvironmentIsExplicit(t *testing.T) {
	got := workerEnv([]string{
		"PATH=/bin", "HOME=/root", "SECRET=x", "COMPOSE_FILE=evil", "DOCKER_CONTEXT=evil", "DOCKER_HOST=tcp://evil",
		"DOCKER_DEFAULT_PLATFORM=x", "DOCKER_CONFIG=/etc/docker", "VARAN_ONBOARDING_KEY=x",
	})
	want := []string{
		"COMPOSE_EXPERIMENTAL_GIT_REMOTE=false", "COMPOSE_EXPERIMENTAL_OCI_REMOTE=false", "GOGC=400",
		"PATH=/bin", "HOME=/root", "DOCKER_CONFIG=/etc/docker",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	out := &tail{max: 10}
	for i := range 100 {
		fmt.Fprintf(out, "%03d,", i)
	}
	if got := out.String(); got != "7,098,099," {
		t.Errorf("tail %q", got)
	}
}

func (liar) Logins(context.Context) ([]wire.Login, error) { return nil, nil }
