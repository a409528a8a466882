package sops_test

import (
	"bytes"
	"testing"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/sops"
)

// FuzzDecrypt feeds anything to the reader of all formats: it never panics, and what it
// opens was sealed by someone who had a key.
func FuzzDecrypt(f *testing.F) {
	for _, name := range fixtures(f) {
		f.Add(name, read(f, "sops", name))
	}
	f.Add("x", []byte("sops_age__list_0__map_enc=x\nsops_mac=ENC[AES256_GCM,data:"))
	f.Add("x.ini", []byte("[sops]\nmac=ENC[AES256_GCM,data:\n"))
	f.Add("x.json", []byte(`{"sops":{"mac":1,"age":[{}]}}`))
	opener := (&sops.Keyring{Trusted: everyone(f)}).For(fleet.TierTrusted)
	locked := (&sops.Keyring{Offline: true}).For(fleet.TierTrusted)
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		plain, ok, bad := opener.Decrypt(name, data)
		if bad == nil && ok && plain.Data != nil && !bytes.Contains(data, []byte("ENC[AES256_GCM,data:")) {
			t.Errorf("opened without an encrypted value: %q", plain.Data)
		}
		locked.Decrypt(name, data)
	})
}

// FuzzRoundTrip encrypts any text of every format and gets it back.
func FuzzRoundTrip(f *testing.F) {
	for _, name := range fixtures(f) {
		f.Add(string(sops.FormatOf(name)), read(f, "want", name))
	}
	ids := identities(f, "old")
	f.Fuzz(func(t *testing.T, format string, plain []byte) {
		data, err := sops.Encrypt("x", sops.Format(format), plain, ids.Recipients(), sops.Rule{}, nil, now)
		if err != nil {
			return // not of the format, or nothing to encrypt
		}
		file, bad := sops.Read("x", data)
		if bad != nil || file == nil {
			t.Fatalf("what was encrypted is not read: %v\n%s", bad, data)
		}
		opened, bad := file.Open(ids, sops.Options{})
		if bad != nil {
			t.Fatalf("what was encrypted does not open: %v\n%s", bad, data)
		}
		if format == string(sops.Binary) && !bytes.Equal(opened.Data, plain) {
			t.Errorf("%q became %q", plain, opened.Data)
		}
	})
}

// FuzzConfig feeds anything to the reader of .sops.yaml.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("creation_rules:\n  - path_regex: a\n    age: x,y\n    key_groups: [{pgp: [z]}]\n"), "a/b")
	f.Fuzz(func(_ *testing.T, data []byte, name string) {
		if config, err := sops.ParseConfig(data); err == nil {
			_, _, _ = config.For(name)
		}
	})
}
