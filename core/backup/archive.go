// Package backup makes one encrypted file of what a core is, and takes it apart again: a tar
// of a manifest, the database and the keys, compressed and encrypted with age, so that also
// age and tar open it. It knows neither the store nor a running core.
package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"github.com/varanhq/varan/sync/sops"
)

// Format is the version of the archive's layout.
const Format = 1

// Database is the name of the database in an archive.
const Database = "varan.db"

const (
	manifestName = "manifest.json"
	maxManifest  = 1 << 20
	maxKeyFile   = 1 << 20
)

// keyNames are all names that a file beside the database may have: a backup that somebody else
// made must not write where it likes.
var keyNames = regexp.MustCompile(`^keys/(core\.key(\.next|\.prev)?|(seal|digest)\.key|age-(trusted|untrusted)\.key|pgp-(trusted|untrusted)\.asc)$`)

// ErrDamaged is every archive that is not as it was written.
var ErrDamaged = errors.New("the backup is damaged")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// Manifest says what is in an archive.
type Manifest struct {
	Format int `json:"format"`
	// Program is the version of Varan that made the archive, Schema that of the database.
	Program string    `json:"program"`
	Schema  int       `json:"schema"`
	Created time.Time `json:"created"`
	// Core is the fingerprint of core's key.
	Core string `json:"core"`
	// Rows are the rows of each table.
	Rows  map[string]int64 `json:"rows"`
	Files []File           `json:"files"`
}

// File is one file of an archive, in the order in which they come.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Source is a file to put into an archive: one on disk, or Data if that is not nil.
type Source struct {
	Name, Path string
	Data       []byte
}

func (s Source) open() (io.ReadCloser, error) {
	if s.Data != nil {
		return io.NopCloser(bytes.NewReader(s.Data)), nil
	}
	f, err := os.Open(s.Path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", s.Name, err)
	}
	return f, nil
}

// Write encrypts an archive of the sources for age recipients. Its Files are filled in here.
// progress, if set, hears how many bytes of all are done.
func Write(ctx context.Context, w io.Writer, recipients []string, m Manifest, sources []Source, progress func(done, total int64)) (err error) {
	m.Format, m.Files = Format, nil
	var total int64
	for _, source := range sources {
		file, err := measure(ctx, source)
		if err != nil {
			return err
		}
		m.Files = append(m.Files, file)
		total += file.Size
	}
	if err := m.check(); err != nil {
		return err
	}
	sealed, err := sops.EncryptTo(w, recipients)
	if err != nil {
		return err
	}
	packed, err := gzip.NewWriterLevel(sealed, gzip.BestSpeed)
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	archive := tar.NewWriter(packed)
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the manifest: %w", err)
	}
	if err := put(archive, manifestName, int64(len(text)), m.Created, bytes.NewReader(text)); err != nil {
		return err
	}
	done := &counter{ctx: ctx, total: total, told: progress}
	for i, source := range sources {
		if err := done.copy(archive, source, m.Files[i], m.Created); err != nil {
			return err
		}
	}
	// Each end is what tells a whole layer from one that was cut off.
	for _, layer := range []io.Closer{archive, packed, sealed} {
		if err := layer.Close(); err != nil {
			return fmt.Errorf("finish the archive: %w", err)
		}
	}
	return nil
}

func measure(ctx context.Context, source Source) (file File, err error) {
	r, err := source.open()
	if err != nil {
		return file, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	hash := sha256.New()
	n, err := io.Copy(hash, &counter{ctx: ctx, from: r})
	if err != nil {
		return file, fmt.Errorf("read %s: %w", source.Name, err)
	}
	return File{Name: source.Name, Size: n, SHA256: hex.EncodeToString(hash.Sum(nil))}, nil
}

func put(archive *tar.Writer, name string, size int64, at time.Time, content io.Reader) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: at.Truncate(time.Second)}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	if _, err := io.Copy(archive, content); err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	return nil
}

// counter is a reader that ends with its context and tells how far it is.
type counter struct {
	ctx         context.Context //nolint:containedctx // a reader has no other way to hear of it
	from        io.Reader
	done, total int64
	told        func(done, total int64)
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.from.Read(p)
	c.done += int64(n)
	if c.told != nil && n > 0 {
		c.told(c.done, c.total)
	}
	return n, err
}

// copy archives a source, which must still be what it was when it was measured.
func (c *counter) copy(archive *tar.Writer, source Source, want File, at time.Time) (err error) {
	r, err := source.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	hash := sha256.New()
	c.from = io.TeeReader(r, hash)
	if err := put(archive, want.Name, want.Size, at, c); err != nil {
		return err
	}
	if hex.EncodeToString(hash.Sum(nil)) != want.SHA256 {
		return fmt.Errorf("archive %s: it changed meanwhile", want.Name)
	}
	return nil
}

// check refuses manifests that no core wrote.
func (m *Manifest) check() error {
	if m.Format != Format {
		return fmt.Errorf("the backup has format %d, this program knows %d: use the release that made it, or a newer one", m.Format, Format)
	}
	seen := map[string]bool{}
	for _, f := range m.Files {
		limit := int64(maxKeyFile)
		if f.Name == Database {
			limit = 1 << 50
		} else if !keyNames.MatchString(f.Name) {
			return damaged("it holds %q, which is no file of a core", f.Name)
		}
		if seen[f.Name] || f.Size < 0 || f.Size > limit {
			return damaged("%s is there twice, or of an impossible size", f.Name)
		}
		seen[f.Name] = true
	}
	for _, name := range []string{Database, "keys/seal.key", "keys/digest.key"} {
		if !seen[name] {
			return damaged("it lacks %s", name)
		}
	}
	return nil
}

// Read takes an archive apart, and checks every byte of it. check sees the manifest before
// anything is written; create makes the file of a name, or returns nil to have it only
// checked. Only what it returns without an error was whole.
func Read(ctx context.Context, r io.Reader, ids *sops.Identities, check func(Manifest) error, create func(name string) (io.WriteCloser, error)) (Manifest, error) {
	var m Manifest
	from := &counter{ctx: ctx, from: r}
	sealed, err := ids.DecryptFrom(from)
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, sops.ErrNotForUs) {
			return m, err
		}
		return m, damaged("%w", err)
	}
	packed, err := gzip.NewReader(sealed)
	if err != nil {
		return m, damaged("%w", err)
	}
	archive := tar.NewReader(packed)
	if m, err = readManifest(archive); err != nil {
		return m, err
	}
	if err := check(m); err != nil {
		return m, err
	}
	for _, file := range m.Files {
		if err := extract(archive, file, create); err != nil {
			return m, err
		}
	}
	return m, ended(archive, packed, sealed)
}

func readManifest(archive *tar.Reader) (m Manifest, err error) {
	header, err := archive.Next()
	if err != nil {
		return m, damaged("%w", err)
	}
	if header.Name != manifestName || header.Typeflag != tar.TypeReg || header.Size > maxManifest {
		return m, damaged("it does not begin with a manifest")
	}
	decoder := json.NewDecoder(io.LimitReader(archive, maxManifest))
	if err := decoder.Decode(&m); err != nil {
		return m, damaged("its manifest: %w", err)
	}
	err = m.check()
	return m, err
}

// extract writes the next file of the archive, which must be the one that the manifest names.
func extract(archive *tar.Reader, want File, create func(name string) (io.WriteCloser, error)) (err error) {
	header, err := archive.Next()
	switch {
	case err != nil:
		return damaged("%s: %w", want.Name, err)
	case header.Name != want.Name || header.Typeflag != tar.TypeReg || header.Size != want.Size:
		return damaged("%q comes where the manifest has %s", header.Name, want.Name)
	}
	out, err := create(want.Name)
	if err != nil {
		return err
	}
	hash := sha256.New()
	into := io.Writer(hash)
	if out != nil {
		defer func() { err = errors.Join(err, out.Close()) }()
		into = io.MultiWriter(hash, writing{out})
	}
	if _, err := io.Copy(into, archive); err != nil {
		if e, ok := errors.AsType[*writeError](err); ok {
			return fmt.Errorf("write %s: %w", want.Name, e.error)
		}
		return damaged("%s: %w", want.Name, err)
	}
	if hex.EncodeToString(hash.Sum(nil)) != want.SHA256 {
		return damaged("%s is not what the manifest says", want.Name)
	}
	return nil
}

// writing tells errors of the disk from those of the archive.
type writing struct{ io.Writer }

type writeError struct{ error }

func (w writing) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		err = &writeError{err}
	}
	return n, err
}

// ended checks that nothing comes after the last file, in any layer: that is also where
// each of them sees whether it is whole.
func ended(archive *tar.Reader, packed, sealed io.Reader) error {
	if header, err := archive.Next(); err == nil {
		return damaged("%q comes after the last file", header.Name)
	} else if !errors.Is(err, io.EOF) {
		return damaged("%w", err)
	}
	for _, layer := range []io.Reader{packed, sealed} {
		n, err := io.Copy(io.Discard, layer)
		if err != nil {
			return damaged("%w", err)
		}
		if n > 0 {
			return damaged("something comes after its end")
		}
	}
	return nil
}
