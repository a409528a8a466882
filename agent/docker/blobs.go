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

// blobs keeps content by its digest. Everything in it may be secret; what is decrypted
// is kept in memory only.
type blobs struct {
	dir string
	ram ram
}

// ramBlobs is where decrypted content is, below ram.dir.
const ramBlobs = "blobs"

// fetch gets what a release needs and is not here yet, and believes none of it unseen.
func (b blobs) fetch(ctx context.Context, r *fleet.Release, from agent.Blobs) error {
	var missing []fleet.Digest
	salted := r.Salted()
	for _, d := range r.Blobs() {
		if !d.Valid() {
			return fmt.Errorf("release %s names the malformed digest %q", r.Digest.Short(), d)
		}
		if b.ram.has(ramBlob(d)) {
			continue
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
		return b.put(d, content, salted[d])
	})
	if err != nil {
		return fmt.Errorf("fetch the release's files: %w", err)
	}
	if got < len(missing) {
		return fmt.Errorf("fetch the release's files: got %d of %d", got, len(missing))
	}
	return nil
}

func (b blobs) put(d fleet.Digest, content []byte, salted bool) error {
	if len(content) > maxBlob {
		return fmt.Errorf("blob %s has %d bytes; at most %d are allowed", d.Short(), len(content), maxBlob)
	}
	if sum := fleet.SumDigest(content); sum != d {
		return fmt.Errorf("blob %s has the digest %s: it was changed on its way", d.Short(), sum.Short())
	}
	if !salted {
		return atomicfile.Write(b.path(d), content, 0o600)
	}
	dir, err := b.ram.ensure(ramBlobs)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, blobName(d)), content, 0o600)
}

// get reads a blob and checks it again: disks lie.
func (b blobs) get(d fleet.Digest) ([]byte, error) {
	if !d.Valid() {
		return nil, fmt.Errorf("malformed digest %q", d)
	}
	path := b.path(d)
	if b.ram.has(ramBlob(d)) {
		path = filepath.Join(b.ram.dir, ramBlob(d))
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	if fleet.SumDigest(content) != d {
		_ = os.Remove(path)
		return nil, fmt.Errorf("blob %s is damaged on disk; it will be fetched again", d.Short())
	}
	return content, nil
}

// sweep removes every blob that keep does not name.
func (b blobs) sweep(keep map[fleet.Digest]bool) error {
	dirs := []string{b.dir}
	if !b.ram.none() {
		dirs = append(dirs, filepath.Join(b.ram.dir, ramBlobs))
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) && dir != b.dir {
			continue
		}
		if err != nil {
			return fmt.Errorf("sweep blobs: %w", err)
		}
		for _, e := range entries {
			if keep[fleet.Digest("sha256:"+e.Name())] {
				continue
			}
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("sweep blobs: %w", err)
			}
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
		if err := b.ram.remove(ramBlob(d)); err != nil {
			return err
		}
	}
	return nil
}

func (b blobs) path(d fleet.Digest) string { return filepath.Join(b.dir, blobName(d)) }

func ramBlob(d fleet.Digest) string { return filepath.Join(ramBlobs, blobName(d)) }

func blobName(d fleet.Digest) string { return strings.TrimPrefix(string(d), "sha256:") }
