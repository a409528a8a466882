// Package imageregistry is an image registry on loopback for tests: it serves one image
// to whoever brings the right password.
package imageregistry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"runtime"
	"strings"
	"testing"
)

// Registry serves one image under every name and tag.
type Registry struct {
	// Host is how images name it: "127.0.0.1:1234".
	Host string

	user, password string
	manifest       []byte
	blobs          map[string][]byte
}

const manifestType = "application/vnd.docker.distribution.manifest.v2+json"

// New starts a registry whose image runs the static program binary. It is stopped when
// the test ends.
func New(tb testing.TB, binary []byte, user, password string) *Registry {
	tb.Helper()
	r := &Registry{user: user, password: password, blobs: map[string][]byte{}}
	if err := r.build(binary); err != nil {
		tb.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(r.serve))
	tb.Cleanup(srv.Close)
	r.Host = strings.TrimPrefix(srv.URL, "http://")
	return r
}

// build makes the image: a layer, a configuration and a manifest.
func (r *Registry) build(binary []byte) error {
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	if err := w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(binary)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	if _, err := w.Write(binary); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err := z.Write(plain.Bytes()); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/app"}, "Cmd": []string{"sleep"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{sum(plain.Bytes())}},
	})
	if err != nil {
		return err
	}
	r.blobs[sum(packed.Bytes())], r.blobs[sum(config)] = packed.Bytes(), config
	r.manifest, err = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": map[string]any{
			"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config), "digest": sum(config),
		},
		"layers": []any{map[string]any{
			"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": packed.Len(), "digest": sum(packed.Bytes()),
		}},
	})
	return err
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if user, password, ok := req.BasicAuth(); !ok || user != r.user || password != r.password {
		w.Header().Set("Www-Authenticate", `Basic realm="test"`)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		return
	}
	kind, content := "application/octet-stream", r.blobs[path.Base(req.URL.Path)]
	switch {
	case req.URL.Path == "/v2/":
		return
	case path.Base(path.Dir(req.URL.Path)) == "manifests":
		kind, content = manifestType, r.manifest
		w.Header().Set("Docker-Content-Digest", sum(content))
	case content == nil:
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	if req.Method != http.MethodHead {
		_, _ = w.Write(content)
	}
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}
