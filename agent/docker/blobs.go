package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
)

// maxBlob bounds one blob: core refuses larger files long before.
const maxBlob = 64 << 20

// blobs keeps content by its digest. Everything in it may be secret.
type blobs struct{ dir string }

// named lists the digests a release needs, each once.
func named(r *fleet.Release) []fleet.Digest {
	seen := map[fleet.Digest]bool{r.Model: true}
	out := []fleet.Digest{r.Model}
	for _, f := range r.Files {
		if !seen[f.Digest] {
			seen[f.Digest] = true
			out = append(out, f.Digest)
		}
	}
	return out
}

// fetch gets what a release needs and is not here yet, and believes none of it unseen.
func (b blobs) fetch(ctx context.Context, r *fleet.Release, from agent.Blobs) error {
	var missing []fleet.Digest
	for _, d := range named(r) {
		if !d.Valid() {
			return fmt.Errorf("release %s names the malformed digest %q", r.Digest.Short(), d)
		}
		if _, err := os.Stat(b.path(d)); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, d)
		} else if err != nil {
			return fmt.Errorf("look for blob: %w", err)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if from == nil {
		return fmt.Errorf("%d blobs of the release are missing and there is nowhere to get them from", len(missing))
	}
	got := 0
	err := from.Fetch(ctx, missing, func(d fleet.Digest, content []byte) error {
		if got == len(missing) || missing[got] != d {
			return fmt.Errorf("got blob %s, which was not asked for", d.Short())
		}
		got++
		return b.put(d, content)
	})
	if err != nil {
		return fmt.Errorf("fetch the release's files: %w", err)
	}
	if got < len(missing) {
		return fmt.Errorf("fetch the release's files: got %d of %d", got, len(missing))
	}
	return nil
}

func (b blobs) put(d fleet.Digest, content []byte) error {
	if len(content) > maxBlob {
		return fmt.Errorf("blob %s has %d bytes; at most %d are allowed", d.Short(), len(content), maxBlob)
	}
	if sum := fleet.SumDigest(content); sum != d {
		return fmt.Errorf("blob %s has the digest %s: it was changed on its way", d.Short(), sum.Short())
	}
	return atomicfile.Write(b.path(d), content, 0o600)
}

// get reads a blob and checks it again: disks lie.
func (b blobs) get(d fleet.Digest) ([]byte, error) {
	if !d.Valid() {
		return nil, fmt.Errorf("malformed digest %q", d)
	}
	content, err := os.ReadFile(b.path(d))
	if err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	if fleet.SumDigest(content) != d {
		_ = os.Remove(b.path(d))
		return nil, fmt.Errorf("blob %s is damaged on disk; it will be fetched again", d.Short())
	}
	return content, nil
}

// sweep removes every blob that keep does not name.
func (b blobs) sweep(keep map[fleet.Digest]bool) error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return fmt.Errorf("sweep blobs: %w", err)
	}
	for _, e := range entries {
		if keep[fleet.Digest("sha256:"+e.Name())] {
			continue
		}
		if err := os.Remove(filepath.Join(b.dir, e.Name())); err != nil {
			return fmt.Errorf("sweep blobs: %w", err)
		}
	}
	return nil
}

// drop removes those of the digests that keep does not name.
func (b blobs) drop(digests []fleet.Digest, keep map[fleet.Digest]bool) error {
	for _, d := range digests {
		if keep[d] || !d.Valid() {
			continue
		}
		if err := os.Remove(b.path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("drop blob: %w", err)
		}
	}
	return nil
}

func (b blobs) path(d fleet.Digest) string {
	return filepath.Join(b.dir, strings.TrimPrefix(string(d), "sha256:"))
}
