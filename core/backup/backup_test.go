package backup_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/backup"
	"github.com/varanhq/varan/sync/sops"
)

type owner struct {
	recipient string
	ids       *sops.Identities
}

func newOwner(t *testing.T) owner {
	t.Helper()
	file, recipient, err := sops.GenerateAge(time.Unix(0, 0))
	must(t, err)
	ids := &sops.Identities{}
	must(t, ids.AddAge(file))
	return owner{recipient, ids}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

var content = map[string]string{
	"varan.db": strings.Repeat("a page of the database ", 9000), "keys/seal.key": "seal", "keys/digest.key": "digest", "keys/core.key": "core",
}

func sources() (out []backup.Source) {
	for _, name := range []string{"varan.db", "keys/seal.key", "keys/digest.key", "keys/core.key"} {
		out = append(out, backup.Source{Name: name, Data: []byte(content[name])})
	}
	return out
}

func archive(t *testing.T, to ...owner) []byte {
	t.Helper()
	var recipients []string
	for _, o := range to {
		recipients = append(recipients, o.recipient)
	}
	var out bytes.Buffer
	m := backup.Manifest{Program: "v1", Schema: 3, Created: time.Unix(1_700_000_000, 0).UTC(), Core: "core", Rows: map[string]int64{"syncs": 2}}
	must(t, backup.Write(t.Context(), &out, recipients, m, sources(), nil))
	return out.Bytes()
}

type file struct {
	bytes.Buffer
}

func (*file) Close() error { return nil }

func read(t *testing.T, data []byte, o owner) (backup.Manifest, map[string]string, error) {
	t.Helper()
	files := map[string]*file{}
	m, err := backup.Read(t.Context(), bytes.NewReader(data), o.ids, func(backup.Manifest) error { return nil },
		func(name string) (io.WriteCloser, error) {
			files[name] = &file{}
			return files[name], nil
		})
	got := map[string]string{}
	for name, f := range files {
		got[name] = f.String()
	}
	return m, got, err
}

func TestEveryRecipientReadsWhatWasWritten(t *testing.T) {
	t.Parallel()
	one, two, other := newOwner(t), newOwner(t), newOwner(t)
	data := archive(t, one, two)
	for _, o := range []owner{one, two} {
		m, got, err := read(t, data, o)
		must(t, err)
		if diff := cmp.Diff(content, got); diff != "" {
			t.Error(diff)
		}
		if m.Schema != 3 || m.Rows["syncs"] != 2 || len(m.Files) != 4 {
			t.Errorf("manifest %+v", m)
		}
	}
	if _, _, err := read(t, data, other); !errors.Is(err, sops.ErrNotForUs) {
		t.Errorf("somebody else: %v", err)
	}
	if bytes.Contains(data, []byte("database")) {
		t.Error("what is in the database can be read without a key")
	}
}

func TestAnyByteThatChangedIsSeen(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	data := archive(t, o)
	step := 1
	if testing.Short() {
		step = 7
	}
	for i := 0; i < len(data); i += step {
		bad := bytes.Clone(data)
		bad[i] ^= 0x10
		if _, _, err := read(t, bad, o); err == nil {
			t.Fatalf("byte %d of %d may be changed", i, len(data))
		}
	}
	for i := 0; i < len(data); i += step {
		if _, _, err := read(t, data[:i], o); err == nil {
			t.Fatalf("all but the first %d bytes of %d may be missing", i, len(data))
		}
	}
	if _, _, err := read(t, append(bytes.Clone(data), 0), o); err == nil {
		t.Error("a byte may be added")
	}
}

// forged writes an archive as somebody may who knows the recipient, which is no secret.
func forged(t *testing.T, o owner, manifest any, entries ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	sealed, err := sops.EncryptTo(&out, []string{o.recipient})
	must(t, err)
	packed := gzip.NewWriter(sealed)
	w := tar.NewWriter(packed)
	text, err := json.Marshal(manifest)
	must(t, err)
	must(t, w.WriteHeader(&tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg, Size: int64(len(text)), Mode: 0o600}))
	_, err = w.Write(text)
	must(t, err)
	for _, e := range entries {
		must(t, w.WriteHeader(&e))
		_, err := w.Write(make([]byte, e.Size))
		must(t, err)
	}
	must(t, w.Close())
	must(t, packed.Close())
	must(t, sealed.Close())
	return out.Bytes()
}

func TestAForgedArchiveWritesNothingOfItsOwnChoice(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	with := func(names ...string) backup.Manifest {
		m := backup.Manifest{Format: 1}
		for _, name := range append([]string{"varan.db", "keys/seal.key", "keys/digest.key"}, names...) {
			m.Files = append(m.Files, backup.File{Name: name, SHA256: strings.Repeat("0", 64)})
		}
		return m
	}
	large := with()
	large.Files[1].Size = 1 << 40
	newer := with()
	newer.Format = 2
	for name, data := range map[string][]byte{
		"up":            forged(t, o, with("../evil")),
		"absolute":      forged(t, o, with("/etc/evil")),
		"another":       forged(t, o, with("keys/authorized_keys")),
		"twice":         forged(t, o, with("varan.db")),
		"large":         forged(t, o, large),
		"lacks keys":    forged(t, o, backup.Manifest{Format: 1, Files: []backup.File{{Name: "varan.db"}}}),
		"newer":         forged(t, o, newer),
		"missing":       forged(t, o, with()),
		"symbolic link": forged(t, o, with(), tar.Header{Name: "varan.db", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
		"hard link":     forged(t, o, with(), tar.Header{Name: "varan.db", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}),
		"device":        forged(t, o, with(), tar.Header{Name: "varan.db", Typeflag: tar.TypeBlock}),
		"other sum":     forged(t, o, with(), tar.Header{Name: "varan.db", Typeflag: tar.TypeReg}),
		"other name":    forged(t, o, with(), tar.Header{Name: "../evil", Typeflag: tar.TypeReg}),
		"no manifest":   forged(t, o, "text"),
	} {
		m, got, err := read(t, data, o)
		if err == nil {
			t.Errorf("%s: is taken: %+v", name, m)
		}
		for written := range got {
			if written != "varan.db" {
				t.Errorf("%s: writes %s", name, written)
			}
		}
	}
}

func TestAFullDiskIsNotADamagedBackup(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	full := errors.New("no space left on device")
	_, err := backup.Read(t.Context(), bytes.NewReader(archive(t, o)), o.ids, func(backup.Manifest) error { return nil },
		func(string) (io.WriteCloser, error) { return broken{full}, nil })
	if !errors.Is(err, full) || errors.Is(err, backup.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

func (broken) Close() error { return nil }

func TestTheOldestBackupsGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	day := time.Date(2026, 11, 1, 1, 0, 0, 0, time.UTC)
	for i := range 5 {
		for _, keys := range []bool{false, true} {
			f, err := backup.Temp(dir)
			must(t, err)
			sha, _, err := backup.Sum(f)
			must(t, errors.Join(err, f.Close()))
			_, err = backup.Keep(f.Name(), day.AddDate(0, 0, i), keys, sha)
			must(t, err)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))
	left, err := backup.Temp(dir)
	must(t, errors.Join(err, left.Close()))
	removed, err := backup.Prune(dir, 2)
	must(t, err)
	must(t, backup.Clean(dir))
	if len(removed) != 7 {
		t.Errorf("%d were removed", len(removed))
	}
	var names []string
	files, err := os.ReadDir(dir)
	must(t, err)
	for _, f := range files {
		names = append(names, f.Name())
	}
	want := []string{
		"notes.txt",
		"varan-20261104-010000.tar.gz.age", "varan-20261104-010000.tar.gz.age.sha256",
		"varan-20261105-010000-keys.tar.gz.age", "varan-20261105-010000-keys.tar.gz.age.sha256",
		"varan-20261105-010000.tar.gz.age", "varan-20261105-010000.tar.gz.age.sha256",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}
