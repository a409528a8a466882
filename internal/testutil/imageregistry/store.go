package imageregistry

import (
	"archive/tar"
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Store is a registry that images are pushed to.
type Store struct {
	// Host is how images name it: "127.0.0.1:1234".
	Host string

	tb testing.TB
	mu sync.Mutex
	// before may answer a request itself; asked are the requests that were made.
	before func(w http.ResponseWriter, r *http.Request) (answered bool)
	asked  []string
}

// Image is what is pushed.
type Image struct {
	// Binary is a static program; without one the image cannot run.
	Binary []byte
	// Cmd are its arguments.
	Cmd []string
	// Mark makes images differ that are otherwise the same.
	Mark    string
	Created time.Time
	// Index wraps the image in an index, with one for another platform beside it.
	Index bool
}

// Open starts an empty registry. It is stopped when the test ends.
func Open(tb testing.TB) *Store {
	tb.Helper()
	s := &Store{tb: tb}
	kept := registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		before := s.before
		if r.Header.Get("User-Agent") != pusher {
			s.asked = append(s.asked, r.Method+" "+r.URL.Path)
		} else {
			before = nil
		}
		s.mu.Unlock()
		if before == nil || !before(w, r) {
			kept.ServeHTTP(w, r)
		}
	}))
	tb.Cleanup(srv.Close)
	s.Host = strings.TrimPrefix(srv.URL, "http://")
	return s
}

// pusher marks the requests of Push, which are not counted.
const pusher = "varan-test-pusher"

// Before has f see every request but those of Push first; nil takes it away.
func (s *Store) Before(f func(w http.ResponseWriter, r *http.Request) (answered bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// Asked are the requests since the last call, as "HEAD /v2/app/manifests/1".
func (s *Store) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

// Push makes an image and gives it a name such as "app:1". It returns the digest by which
// the registry knows it.
func (s *Store) Push(ref string, img Image) string {
	s.tb.Helper()
	tag, err := name.NewTag(s.Host + "/" + ref)
	if err != nil {
		s.tb.Fatal(err)
	}
	made, err := img.build(runtime.GOARCH)
	if err != nil {
		s.tb.Fatal(err)
	}
	options := []remote.Option{remote.WithContext(s.tb.Context()), remote.WithTransport(marked{})}
	if !img.Index {
		err = remote.Write(tag, made, options...)
		return s.digest(made, err)
	}
	other := Image{Mark: "for another platform " + img.Mark}
	elsewhere, err := other.build("s390x")
	if err != nil {
		s.tb.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: elsewhere, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}},
		mutate.IndexAddendum{Add: made, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}}})
	err = remote.WriteIndex(tag, index, options...)
	return s.digest(index, err)
}

func (s *Store) digest(pushed interface{ Digest() (v1.Hash, error) }, err error) string {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatal(err)
	}
	digest, err := pushed.Digest()
	if err != nil {
		s.tb.Fatal(err)
	}
	return digest.String()
}

func (img Image) build(arch string) (v1.Image, error) {
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	if err := w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(img.Binary)), Typeflag: tar.TypeReg}); err != nil {
		return nil, err
	}
	if _, err := w.Write(img.Binary); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content.Bytes())), nil
	})
	if err != nil {
		return nil, err
	}
	made, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := made.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: img.Created}
	config.Config = v1.Config{Entrypoint: []string{"/app"}, Cmd: img.Cmd, Labels: map[string]string{"mark": img.Mark}}
	return mutate.ConfigFile(made, config)
}

// marked says of requests that they are ours.
type marked struct{}

func (marked) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", pusher)
	return http.DefaultTransport.RoundTrip(r)
}
