package web

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/varanhq/varan/core/api"
)

// maxDownloads is how many agents' programs are sent at a time: anybody may ask.
const maxDownloads = 16

//go:embed install.sh
var installText string

// programs are the agents that core can give to hosts: those of a directory of releases, and
// its own program for hosts of its own platform.
type programs struct {
	dir string
	// self is the program that runs; it is an agent too.
	self string
	slot chan struct{}

	mu   sync.Mutex
	sums map[string]measured
}

// measured is the sum of a file as long as it looks the same.
type measured struct {
	size int64
	at   time.Time
	sum  string
}

// program is an agent for a platform such as "linux/amd64".
type program struct{ Platform, Path, Sum string }

func newPrograms(dir string) *programs {
	p := &programs{dir: dir, slot: make(chan struct{}, maxDownloads), sums: map[string]measured{}}
	if self, err := os.Executable(); err == nil && runtime.GOOS == "linux" {
		p.self = self
	}
	return p
}

// releaseName is how releases call the agent's program.
var releaseName = regexp.MustCompile(`^varan-agent-(linux)-([a-z0-9]+)$`)

// list finds the programs, by platform.
func (p *programs) list() ([]program, error) {
	found := map[string]program{}
	if own := runtime.GOOS + "/" + runtime.GOARCH; p.self != "" {
		found[own] = program{Platform: own, Path: p.self}
	}
	if p.dir != "" {
		entries, err := os.ReadDir(p.dir)
		if err != nil {
			return nil, fmt.Errorf("list the agents' programs: %w", err)
		}
		for _, entry := range entries {
			if m := releaseName.FindStringSubmatch(entry.Name()); m != nil {
				platform := m[1] + "/" + m[2]
				found[platform] = program{Platform: platform, Path: filepath.Join(p.dir, entry.Name())}
			}
		}
	}
	out := make([]program, 0, len(found))
	for _, one := range found {
		sum, err := p.sum(one.Path)
		if err != nil {
			return nil, err
		}
		one.Sum = sum
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b program) int { return cmp.Compare(a.Platform, b.Platform) })
	return out, nil
}

// sum is the SHA-256 of a file, computed once as long as the file stays the same.
func (p *programs) sum(path string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("look at an agent's program: %w", err)
	}
	if known := p.sums[path]; known.sum != "" && known.size == info.Size() && known.at.Equal(info.ModTime()) {
		return known.sum, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read an agent's program: %w", err)
	}
	defer func() { _ = f.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", fmt.Errorf("read an agent's program: %w", err)
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	p.sums[path] = measured{size: info.Size(), at: info.ModTime(), sum: sum}
	return sum, nil
}

// hostText is what a shell script can have of the Host header between single quotes.
var hostText = regexp.MustCompile(`^[A-Za-z0-9.:\[\]-]{1,255}$`)

// baseURL is the address by which a client reached core. A proxy that speaks TLS says so.
func baseURL(r *http.Request) (string, bool) {
	scheme := "http"
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + r.Host, hostText.MatchString(r.Host)
}

// installScript answers with the script that installs an agent. There is no secret in it.
func (s *server) installScript(w http.ResponseWriter, r *http.Request) {
	base, ok := baseURL(r)
	if !ok {
		writeError(w, badRequest("the Host header is no address", "ask for the script at core's address"))
		return
	}
	all, err := s.programs.list()
	if err != nil {
		writeError(w, s.failure(r.Context(), err))
		return
	}
	choices := make([]string, len(all))
	for i, one := range all {
		choices[i] = one.Platform + ") echo " + one.Sum + " ;;"
	}
	text := strings.NewReplacer(
		"@CORE@", base, "@VERSION@", plainVersion(s.Version.Version), "@PROGRAMS@", strings.Join(choices, "\n\t"),
	).Replace(installText)
	w.Header().Set("Content-Type", "text/x-shellscript; charset=utf-8")
	_, _ = io.WriteString(w, text) //nolint:gosec // baseURL accepts nothing but a host, and a script is no HTML
}

// plainVersion is a version that a script can have between single quotes.
func plainVersion(version string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '\'' {
			return '_'
		}
		return r
	}, version)
}

// download sends the agent's program for a platform.
func (s *server) download(w http.ResponseWriter, r *http.Request) {
	platform := r.PathValue("os") + "/" + r.PathValue("arch")
	all, err := s.programs.list()
	if err != nil {
		writeError(w, s.failure(r.Context(), err))
		return
	}
	i := slices.IndexFunc(all, func(p program) bool { return p.Platform == platform })
	if i < 0 {
		writeError(w, &api.Error{
			Status: http.StatusNotFound, Code: api.CodeNotFound, Message: "core has no agent for that platform",
			Hint: "start core with --agent-binaries and the directory of a release",
		})
		return
	}
	select {
	case s.programs.slot <- struct{}{}:
		defer func() { <-s.programs.slot }()
	default:
		w.Header().Set("Retry-After", "5")
		writeError(w, unavailable("too many agents are being fetched at this moment", "try again in a few seconds"))
		return
	}
	f, err := os.Open(all[i].Path)
	if errors.Is(err, fs.ErrNotExist) {
		err = unavailable("the program was replaced", "try again")
	}
	if err != nil {
		writeError(w, s.failure(r.Context(), err))
		return
	}
	defer func() { _ = f.Close() }()
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(downloadTime)); err != nil {
		s.Logger.LogAttrs(r.Context(), slog.LevelDebug, "a download has no deadline", slog.Any("err", err))
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+all[i].Sum+`"`)
	http.ServeContent(w, r, "varan-agent", time.Time{}, f)
}

// downloadTime is for a program of 100 MB over 2 Mbit/s.
const downloadTime = 7 * time.Minute
