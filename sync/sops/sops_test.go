package sops_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/sync/sops"
)

var now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func read(tb testing.TB, elem ...string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, elem...)...))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// identities are of keys of testdata: "old", "new", "other", "ssh", "pgp" and "pgp-curve".
func identities(tb testing.TB, names ...string) *sops.Identities {
	tb.Helper()
	ids := &sops.Identities{}
	for _, name := range names {
		var err error
		if strings.HasPrefix(name, "pgp") {
			err = ids.AddPGP(read(tb, "keys", name+".asc"))
		} else {
			err = ids.AddAge(read(tb, "keys", name+".key"))
		}
		if err != nil {
			tb.Fatalf("key %s: %v", name, err)
		}
	}
	return ids
}

func everyone(tb testing.TB) *sops.Identities {
	tb.Helper()
	return identities(tb, "old", "ssh", "pgp", "pgp-curve")
}

func open(tb testing.TB, name string, data []byte, ids *sops.Identities) *sops.Opened {
	tb.Helper()
	file, bad := sops.Read(name, data)
	if bad != nil {
		tb.Fatalf("%s: %s", name, bad)
	}
	if file == nil {
		tb.Fatalf("%s is taken for an ordinary file", name)
	}
	opened, bad := file.Open(ids, sops.Options{MACOnlyEncrypted: true})
	if bad != nil {
		tb.Fatalf("%s: %s", name, bad)
	}
	return opened
}

func fixtures(tb testing.TB) []string {
	tb.Helper()
	list, err := os.ReadDir("testdata/sops")
	if err != nil || len(list) == 0 {
		tb.Fatalf("no fixtures: %v", err)
	}
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name()
	}
	return names
}

// TestDecryptsWhatSopsWrote compares with the output of sops itself, byte for byte.
func TestDecryptsWhatSopsWrote(t *testing.T) {
	for _, name := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			opened := open(t, name, read(t, "sops", name), everyone(t))
			if diff := cmp.Diff(string(read(t, "want", name)), string(opened.Data)); diff != "" {
				t.Errorf("plaintext (-sops +ours):\n%s", diff)
			}
			if len(opened.Values) == 0 {
				t.Error("no decrypted value is reported")
			}
		})
	}
}

// TestRoundTrip encrypts every plaintext anew and decrypts it again. The second time
// around, as with sops, nothing about the layout changes any more.
func TestRoundTrip(t *testing.T) {
	ids := everyone(t)
	for _, name := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			original, bad := sops.Read(name, read(t, "sops", name))
			if bad != nil {
				t.Fatal(bad)
			}
			plain := read(t, "want", name)
			data, err := sops.Encrypt(name, original.Format, plain, ids.Recipients(), original.Rule(), publicKeys(t), now)
			if err != nil {
				t.Fatal(err)
			}
			once := open(t, name, data, ids).Data
			if name != "all.yaml" && string(once) != string(plain) {
				t.Errorf("after encryption and decryption (-want +got):\n%s", cmp.Diff(string(plain), string(once)))
			}
			data, err = sops.Encrypt(name, original.Format, once, ids.Recipients(), original.Rule(), publicKeys(t), now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(once), string(open(t, name, data, ids).Data)); diff != "" {
				t.Errorf("after encryption and decryption again (-want +got):\n%s", diff)
			}
		})
	}
}

func publicKeys(tb testing.TB) *sops.PublicKeys {
	tb.Helper()
	known := &sops.PublicKeys{}
	for _, name := range []string{"pgp.pub.asc", "pgp-curve.asc"} {
		if err := known.Add(read(tb, "keys", name)); err != nil {
			tb.Fatal(err)
		}
	}
	return known
}

// TestSopsDecryptsOurs needs the sops program, named by SOPS_BINARY. docs/adr/0011-sops.md
// says when it was run last.
func TestSopsDecryptsOurs(t *testing.T) {
	binary := os.Getenv("SOPS_BINARY")
	if binary == "" {
		t.Skip("SOPS_BINARY is not set")
	}
	for _, name := range fixtures(t) {
		for _, key := range []string{"old", "ssh", "pgp", "pgp-curve"} {
			t.Run(name+"/"+key, func(t *testing.T) {
				original, bad := sops.Read(name, read(t, "sops", name))
				if bad != nil {
					t.Fatal(bad)
				}
				to := identities(t, key).Recipients()
				data, err := sops.Encrypt(name, original.Format, read(t, "want", name), to, original.Rule(), publicKeys(t), now)
				if err != nil {
					t.Fatal(err)
				}
				want := open(t, name, data, everyone(t)).Data
				if got := runSops(t, binary, key, name, data); got != string(want) {
					t.Errorf("sops decrypts ours differently (-ours +sops):\n%s", cmp.Diff(string(want), got))
				}
			})
		}
	}
}

func runSops(t *testing.T, binary, key, name string, data []byte) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs(filepath.Join("testdata", "keys", key+".key"))
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=" + dir, "GNUPGHOME=" + dir, "PATH=" + os.Getenv("PATH")}
	switch {
	case key == "ssh":
		env = append(env, "SOPS_AGE_SSH_PRIVATE_KEY_FILE="+path)
	case strings.HasPrefix(key, "pgp"):
		gpg := exec.CommandContext(t.Context(), "gpg", "--batch", "--import", strings.TrimSuffix(path, ".key")+".asc")
		gpg.Env = env
		if out, err := gpg.CombinedOutput(); err != nil {
			t.Fatalf("gpg: %v\n%s", err, out)
		}
	default:
		env = append(env, "SOPS_AGE_KEY_FILE="+path)
	}
	cmd := exec.CommandContext(t.Context(), binary, "decrypt", file)
	cmd.Env = env
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sops: %v\n%s", err, err.(*exec.ExitError).Stderr) //nolint:errorlint,forcetypeassert // a test
	}
	return string(out)
}

func BenchmarkOpen(b *testing.B) {
	data, ids := read(b, "sops", "all.yaml"), identities(b, "old")
	b.ReportAllocs()
	for b.Loop() {
		open(b, "all.yaml", data, ids)
	}
}
