package web_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/varanhq/varan/core/api"
)

const pushBody = `{"ref":"refs/heads/main","after":"0123"}`

func sign(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// hook is one delivery.
type hook struct {
	method, path, body string
	header             http.Header
}

func githubPush(secret, body string) hook {
	return hook{
		path: "/listener/github/sync/main/sync", body: body,
		header: http.Header{"X-Hub-Signature-256": {sign(secret, body)}, "X-Github-Event": {"push"}},
	}
}

func (f *fixture) deliver(t *testing.T, h hook) (int, string) {
	t.Helper()
	method := h.method
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, f.server.URL+h.path, strings.NewReader(h.body))
	must(t, err)
	req.Header = h.header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if _, ok := req.Header["Content-Type"]; !ok {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(raw)
}

func accepted(t *testing.T, status int, body string) api.Accepted {
	t.Helper()
	var a api.Accepted
	if status != http.StatusAccepted || json.Unmarshal([]byte(body), &a) != nil || strings.Count(body, "\n") != 1 {
		t.Fatalf("got %d %q", status, body)
	}
	return a
}

func TestAPushWakesTheSyncAndSaysSo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		autoApply          bool
		path, does, saying string
	}{
		{true, "sync", "sync", "planned and applied"},
		{true, "refresh", "sync", "planned and applied"},
		{false, "sync", "sync", "planned and applied"},
		{false, "refresh", "refresh", "will be planned"},
	} {
		f := newFixture(t)
		push := githubPush(f.addSync(t, c.autoApply), pushBody)
		push.path = "/listener/github/sync/main/" + c.path
		status, body := f.deliver(t, push)
		a := accepted(t, status, body)
		if !a.Accepted || a.Sync != "main" || a.Action != c.does || !strings.Contains(a.Reason, c.saying) {
			t.Errorf("%+v: %+v", c, a)
		}
		if len(f.loop.pokes) != 1 || (len(f.loop.applied) == 1) != (c.path == "sync") {
			t.Errorf("%+v: poked %v, asked to apply %v", c, f.loop.pokes, f.loop.applied)
		}
	}
}

func TestAReplayedPushNeverApplies(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	push := githubPush(f.addSync(t, false), pushBody)
	push.path = "/listener/github/sync/main/sync"
	f.deliver(t, push)
	status, body := f.deliver(t, push)
	if a := accepted(t, status, body); a.Action != "refresh" || !strings.Contains(a.Reason, "duplicate") {
		t.Errorf("%+v", a)
	}
	if len(f.loop.applied) != 1 {
		t.Errorf("asked to apply %d times", len(f.loop.applied))
	}
}

func TestGitLabShowsItsToken(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret := f.addSync(t, true)
	h := hook{
		path: "/listener/gitlab/sync/main/refresh", body: pushBody,
		header: http.Header{"X-Gitlab-Token": {secret}, "X-Gitlab-Event": {"Push Hook"}},
	}
	status, body := f.deliver(t, h)
	if a := accepted(t, status, body); !a.Accepted {
		t.Errorf("%+v", a)
	}
	for _, values := range [][]string{nil, {""}, {secret + "x"}, {secret, secret}, {strings.ToLower(secret)}} {
		h.header = http.Header{"X-Gitlab-Token": values}
		if status, _ := f.deliver(t, h); status != http.StatusUnauthorized {
			t.Errorf("token %q: %d", values, status)
		}
	}
}

func TestW01W03W04UnprovenSendersGetOneAnswerAndLeaveNoTrace(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret := f.addSync(t, true)
	good := sign(secret, pushBody)
	before, err := f.store.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 100}})
	must(t, err)
	cases := map[string][]string{
		"none": nil, "empty": {""}, "sha1": {"sha1=" + good[7:]}, "upper case": {"sha256=" + strings.ToUpper(good[7:])},
		"truncated": {good[:len(good)-2]}, "two": {good, good}, "no prefix": {good[7:]}, "another secret": {sign("x"+secret, pushBody)},
		"another body": {sign(secret, pushBody+" ")}, "empty secret": {sign("", pushBody)}, "spaces": {" sha256= " + good[7:]},
	}
	answers := map[string]string{}
	for name, values := range cases {
		status, body := f.deliver(t, hook{
			path: "/listener/github/sync/main/sync", body: pushBody, header: http.Header{"X-Hub-Signature-256": values},
		})
		answers[fmt.Sprintf("%d %s", status, body)] = name
	}
	for name, h := range map[string]hook{
		"W04 unknown sync": {path: "/listener/github/sync/nobody/sync", body: pushBody, header: http.Header{"X-Hub-Signature-256": {good}}},
		"W04 unknown sync, empty secret": {
			path: "/listener/github/sync/nobody/sync", body: pushBody, header: http.Header{"X-Hub-Signature-256": {sign("", pushBody)}},
		},
		"W04 unknown sync at gitlab": {path: "/listener/gitlab/sync/nobody/sync", body: pushBody, header: http.Header{"X-Gitlab-Token": {""}}},
		"W01 the other provider's header": {
			path: "/listener/github/sync/main/sync", body: pushBody, header: http.Header{"X-Gitlab-Token": {secret}},
		},
	} {
		status, body := f.deliver(t, h)
		answers[fmt.Sprintf("%d %s", status, body)] = name
	}
	if len(answers) != 1 {
		t.Errorf("refusals differ: %v", answers)
	}
	for answer := range answers {
		if !strings.HasPrefix(answer, "401 ") {
			t.Errorf("got %s", answer)
		}
	}
	after, err := f.store.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 100}})
	must(t, err)
	if len(after) != len(before) || len(f.loop.pokes) != 0 {
		t.Errorf("%d events, %d pokes", len(after)-len(before), len(f.loop.pokes))
	}
	if strings.Contains(f.log.String(), secret) {
		t.Error("the log holds the secret")
	}
}

func TestW05BodiesAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret := f.addSync(t, true)
	pad := func(size int) string {
		const head, tail = `{"ref":"refs/heads/main","x":"`, `"}`
		return head + strings.Repeat("x", size-len(head)-len(tail)) + tail
	}
	if status, body := f.deliver(t, githubPush(secret, pad(1<<20))); status != http.StatusAccepted {
		t.Errorf("1 MiB: %d %s", status, body)
	}
	if status, _ := f.deliver(t, githubPush(secret, pad(1<<20+1))); status != http.StatusRequestEntityTooLarge {
		t.Errorf("1 MiB and a byte: %d", status)
	}
	// Chunked, without an end in sight.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.server.URL+"/listener/github/sync/main/sync",
		io.MultiReader(bytes.NewReader(make([]byte, 2<<20)), strings.NewReader("x")))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("endless: %d", resp.StatusCode)
		}
	}
	h := githubPush(secret, pushBody)
	h.header.Set("Content-Encoding", "gzip")
	if status, _ := f.deliver(t, h); status != http.StatusUnsupportedMediaType {
		t.Errorf("gzip: %d", status)
	}
}

func TestW06ReplaysAreAnsweredAsDuplicates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret := f.addSync(t, true)
	for i, want := range []bool{false, true, true} {
		h := githubPush(secret, pushBody)
		h.header.Set("X-Github-Delivery", fmt.Sprint(i)) // a new delivery id makes no difference
		status, body := f.deliver(t, h)
		if got := strings.Contains(accepted(t, status, body).Reason, "duplicate"); got != want {
			t.Errorf("delivery %d: duplicate %v: %s", i, got, body)
		}
	}
	f.now = f.now.Add(24 * time.Hour)
	status, body := f.deliver(t, githubPush(secret, pushBody))
	if strings.Contains(accepted(t, status, body).Reason, "duplicate") {
		t.Errorf("after a day: %s", body)
	}
}

func TestW07W08OnlyRefIsReadAndNonsenseIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret := f.addSync(t, true)
	cases := map[string]struct {
		body     string
		status   int
		accepted bool
	}{
		"only ref":           {`{"ref":"refs/heads/main"}`, 202, true},
		"ref last":           {`{"a":{"ref":"refs/heads/x"},"b":[{"ref":1}],"ref":"refs/heads/main"}`, 202, true},
		"another repository": {`{"ref":"refs/heads/main","repository":{"clone_url":"https://evil/x","full_name":"../\u001b[31m"}}`, 202, true},
		"no ref":             {`{}`, 202, false},
		"ref null":           {`{"ref":null}`, 202, false},
		"ref number":         {`{"ref":1e999}`, 202, false},
		"ref object":         {`{"ref":{"ref":"refs/heads/main"}}`, 202, false},
		"ref array":          {`{"ref":["refs/heads/main"]}`, 202, false},
		"ref in another":     {`{"a":{"ref":"refs/heads/main"}}`, 202, false},
		"ref twice":          {`{"ref":"refs/heads/x","ref":"refs/heads/main"}`, 400, false},
		"array":              {`["refs/heads/main"]`, 400, false},
		"string":             {`"refs/heads/main"`, 400, false},
		"empty":              {``, 400, false},
		"trailing":           {pushBody + `{}`, 400, false},
		"truncated":          {pushBody[:20], 400, false},
		"invalid UTF-8":      {"{\"ref\":\"refs/heads/main\xff\"}", 400, false},
		"depth 64":           {`{"ref":"refs/heads/main","a":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`, 202, true},
		"depth 65":           {`{"ref":"refs/heads/main","a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, 400, false},
		"depth 10,000":       {strings.Repeat(`{"a":`, 10_000), 400, false},
	}
	for name, tc := range cases {
		status, body := f.deliver(t, githubPush(secret, tc.body))
		if status != tc.status || tc.status == 202 && accepted(t, status, body).Accepted != tc.accepted {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestW09W10WhatDoesNotConcernTheSyncIsAnsweredInWords(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret := f.addSync(t, true)
	for name, tc := range map[string]struct{ event, ref, words string }{
		"other branch":         {"push", "refs/heads/dev", `branch "dev" was pushed; the sync follows branch main`},
		"branch with a suffix": {"push", "refs/heads/main/x", "follows branch main"},
		"metacharacters":       {"push", "refs/heads/m.in", "follows branch main"},
		"tag":                  {"push", "refs/tags/v1", "is a tag"},
		"tag of that name":     {"push", "refs/tags/main", "is a tag"},
		"escape characters":    {"push", "refs/heads/\\u001b[31m", `\x1b[31m`},
		"ping":                 {"ping", "", "the webhook works"},
		"delete":               {"delete", "main", "not a push"},
		"issues":               {"issues", "", "not a push"},
		"tag hook":             {"Tag Push Hook", "refs/tags/x", "not a push"},
		"not a ref":            {"", "main", "is not a branch"},
	} {
		body := `{"ref":"` + tc.ref + `","case":"` + name + `"}`
		h := githubPush(secret, body)
		h.header.Set("X-Github-Event", tc.event)
		status, answer := f.deliver(t, h)
		a := accepted(t, status, answer)
		if a.Accepted || a.Action != "none" || !strings.Contains(a.Reason, tc.words) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if len(f.loop.pokes) != 0 {
		t.Errorf("%d pokes", len(f.loop.pokes))
	}
}

func TestW11OnlyJSONIsPosted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret := f.addSync(t, true)
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodHead, http.MethodOptions, http.MethodDelete} {
		h := githubPush(secret, pushBody)
		h.method = method
		if status, _ := f.deliver(t, h); status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, status)
		}
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"} {
		h := githubPush(secret, pushBody)
		h.header["Content-Type"] = []string{kind}
		if status, _ := f.deliver(t, h); status != http.StatusUnsupportedMediaType {
			t.Errorf("%q: %d", kind, status)
		}
	}
	for _, path := range []string{"/listener/bitbucket/sync/main/sync", "/listener/github/sync/main/deploy", "/listener/github/stack/web/deploy"} {
		h := githubPush(secret, pushBody)
		h.path = path
		if status, _ := f.deliver(t, h); status != http.StatusNotFound && status != http.StatusUnauthorized {
			t.Errorf("%s: %d", path, status)
		}
	}
}

func TestW12ABurstIsAcceptedAndCoalesced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret := f.addSync(t, true)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			status, body := f.deliver(t, githubPush(secret, fmt.Sprintf(`{"ref":"refs/heads/main","n":%d}`, i)))
			if status != http.StatusAccepted || !strings.Contains(body, `"accepted":true`) {
				t.Errorf("delivery %d: %d %s", i, status, body)
			}
		})
	}
	wg.Wait()
	events, err := f.store.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 100}})
	must(t, err)
	if len(events) != 21 { // one is of the sync's creation
		t.Errorf("%d events for 20 deliveries", len(events)-1)
	}
	for i := range 40 {
		f.deliver(t, githubPush(secret, fmt.Sprintf(`{"ref":"refs/heads/main","m":%d}`, i)))
	}
	before := len(f.loop.pokes)
	if status, _ := f.deliver(t, githubPush(secret, pushBody)); status != http.StatusTooManyRequests {
		t.Errorf("delivery 61 of a minute: %d", status)
	}
	f.deliver(t, githubPush(secret, `{"ref":"refs/heads/other"}`))
	if woken := len(f.loop.pokes) - before; woken != 1 {
		t.Errorf("a push that was not recorded, and one to another branch, woke the sync %d times", woken)
	}
	f.now = f.now.Add(time.Minute)
	if status, _ := f.deliver(t, githubPush(secret, pushBody)); status != http.StatusAccepted {
		t.Errorf("a minute later: %d", status)
	}
}

func TestW13ADeliveryThatCannotBeRecordedIsAskedForAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret := f.addSync(t, true)
	must(t, f.store.Close())
	if status, body := f.deliver(t, githubPush(secret, pushBody)); status != http.StatusServiceUnavailable {
		t.Errorf("got %d %s", status, body)
	}
	if len(f.loop.pokes) != 0 {
		t.Error("the sync was woken for a delivery that will come again")
	}
}

func TestW14FailuresAreLimitedPerRealPeer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret := f.addSync(t, true)
	wrong := githubPush("wrong secret", pushBody)
	for i := range 31 {
		wrong.header.Set("X-Forwarded-For", fmt.Sprintf("10.0.0.%d", i))
		want := http.StatusUnauthorized
		if i == 30 {
			want = http.StatusTooManyRequests
		}
		if status, _ := f.deliver(t, wrong); status != want {
			t.Errorf("failure %d: %d, want %d", i+1, status, want)
		}
	}
	if status, body := f.deliver(t, githubPush(secret, pushBody)); status != http.StatusAccepted {
		t.Errorf("a signed delivery behind the same address: %d %s", status, body)
	}
}
