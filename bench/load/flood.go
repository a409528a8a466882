package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/varanhq/varan/bench/internal/process"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/internal/backoff"
	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/sync/git"
)

const (
	floodConns    = 64
	floodBody     = 10 << 10
	floodFetches  = 20
	floodRequests = 2000 // a second
	floodP99      = 250 * time.Millisecond
	floodGrowth   = 64 << 20
)

// measureFloods floods a core that limits deliveries as it does by default, and one that takes
// them all.
func measureFloods(ctx context.Context, bin string, n int) error {
	for _, f := range []struct {
		what string
		env  []string
	}{
		{"limits as they are by default", nil},
		{"limits raised above the flood", []string{
			"VARAN_WEBHOOK_PER_MINUTE=100000", "VARAN_WEBHOOK_TOTAL_PER_MINUTE=1000000", "VARAN_WEBHOOK_REFUSED_PER_MINUTE=100000",
		}},
	} {
		if err := measureFlood(ctx, bin, n, f.what, f.env); err != nil {
			return fmt.Errorf("%s: %w", f.what, err)
		}
	}
	return nil
}

// flood is a core with one sync, and the Git host that tells of pushes to it.
type flood struct {
	*instance
	repo    string
	secret  string
	fetches atomic.Int64
	client  *http.Client
}

// delivered is what became of the deliveries.
type delivered struct {
	mu       sync.Mutex
	took     []time.Duration
	statuses map[int]int
}

func measureFlood(ctx context.Context, bin string, n int, what string, env []string) error {
	f := &flood{client: &http.Client{Transport: &http.Transport{MaxConnsPerHost: floodConns, MaxIdleConnsPerHost: floodConns}}}
	var err error
	if f.instance, err = newInstance(ctx, bin, env...); err != nil {
		return err
	}
	defer f.close()
	host, err := f.serveGit(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	if err := f.addSync(ctx, host.URL); err != nil {
		return err
	}
	if err := backoff.Pause(ctx, 2*time.Second); err != nil { // core gives back what its start took
		return err
	}
	before, _ := f.proc.Memory()
	cpu := f.proc.CPU()
	f.fetches.Store(0)
	start := time.Now()
	result, last, err := f.send(ctx, n)
	if err != nil {
		return err
	}
	wall := time.Since(start)
	found := process.Until(ctx, time.Minute, "the last commit to be planned", func() bool {
		seen, err := f.api.Sync(ctx, "flood")
		return err == nil && seen.State.Good.ID == last
	})
	_, peak := f.proc.Memory()
	result.print(n, what, wall)
	planned := "planned"
	if found != nil {
		planned = "NOT planned"
	}
	fetches := f.fetches.Load()
	fmt.Printf("  the last of %d pushed commits is %s, %v after the last answer: %s\n", n/5/pushEvery, planned,
		(time.Since(start) - wall).Round(time.Millisecond), verdict(found == nil))
	fmt.Printf("  looks at the repository: %d  goal %d: %s\n", fetches, floodFetches, verdict(fetches <= floodFetches))
	fmt.Printf("  core's CPU %.2f s, RSS before %s, peak %s  goal +%s: %s\n", (f.proc.CPU() - cpu).Seconds(), mib(before), mib(peak),
		mib(floodGrowth), verdict(peak-before <= floodGrowth))
	return nil
}

// pushEvery is of how many unique deliveries one goes with a real commit.
const pushEvery = 100

func (f *flood) serveGit(ctx context.Context) (*httptest.Server, error) {
	f.repo = filepath.Join(f.dir, "git", "fleet")
	if err := os.MkdirAll(f.repo, 0o750); err != nil {
		return nil, fmt.Errorf("make the repository's directory: %w", err)
	}
	if _, err := git.Init(f.repo, map[string]string{"README.md": "load\n"}, "empty", time.Now()); err != nil {
		return nil, err
	}
	backend, err := gitserver.Backend(ctx, filepath.Join(f.dir, "git"))
	if err != nil {
		return nil, err
	}
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/info/refs") {
			f.fetches.Add(1)
		}
		backend.ServeHTTP(w, r)
	})), nil
}

func (f *flood) addSync(ctx context.Context, host string) error {
	created, err := f.api.AddSync(ctx, api.SyncSpec{Name: "flood", URL: host + "/fleet", IntervalSeconds: 86400, AutoApply: true})
	if err != nil {
		return fmt.Errorf("add the sync: %w", err)
	}
	f.secret = string(created.WebhookSecret)
	return process.Until(ctx, time.Minute, "the first look", func() bool {
		seen, err := f.api.Sync(ctx, "flood")
		return err == nil && !seen.State.Checked.IsZero()
	})
}

// send delivers: of each ten two are unique, seven come again, and one is signed with another
// secret. It returns the last commit that was pushed.
func (f *flood) send(ctx context.Context, n int) (*delivered, string, error) {
	result := &delivered{statuses: map[int]int{}}
	var last string
	jobs := make(chan int)
	var senders sync.WaitGroup
	for range floodConns {
		senders.Go(func() {
			for i := range jobs {
				f.deliver(ctx, i, result)
			}
		})
	}
	var err error
	unique := 0
	for i := range n {
		if i%10 < 2 {
			unique++
			if unique%pushEvery == 0 {
				if last, err = f.commit(unique); err != nil {
					break
				}
			}
		}
		jobs <- i
	}
	close(jobs)
	senders.Wait()
	return result, last, err
}

func (f *flood) commit(version int) (string, error) {
	files := map[string]string{"README.md": fmt.Sprintf("version %d\n", version)}
	commit, err := git.CommitFiles(f.repo, files, "load", time.Now())
	return commit.ID, err
}

// deliver sends delivery i and notes how it was answered.
func (f *flood) deliver(ctx context.Context, i int, result *delivered) {
	number, secret := i, f.secret
	switch {
	case i%10 == 9:
		secret = "another secret"
	case i%10 >= 2:
		number = i - i%10 + i%2 // one of the two before
	}
	body, _ := json.Marshal(map[string]string{
		"ref": "refs/heads/main", "after": fmt.Sprintf("%040d", number), "pad": strings.Repeat("x", floodBody-100),
	})
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.api.BaseURL+"/listener/github/sync/flood/sync", bytes.NewReader(body))
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-GitHub-Event", "push")
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	sent := time.Now()
	status := 0
	if resp, err := f.client.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		status = resp.StatusCode
	}
	result.mu.Lock()
	defer result.mu.Unlock()
	result.took = append(result.took, time.Since(sent))
	result.statuses[status]++
}

func (d *delivered) print(n int, what string, wall time.Duration) {
	slices.Sort(d.took)
	p99, rate := quantile(d.took, 0.99), float64(n)/wall.Seconds()
	fmt.Printf("\n%d webhooks of %d KiB over %d connections, %s\n", n, floodBody>>10, floodConns, what)
	fmt.Printf("  answers: %v (0 is a connection that broke)\n", d.statuses)
	fmt.Printf("  %.0f a second  goal %d: %s\n", rate, floodRequests, verdict(rate >= floodRequests))
	fmt.Printf("  p50 %v  p99 %v  goal %v: %s\n", quantile(d.took, 0.5), p99, floodP99, verdict(p99 <= floodP99))
}
