package sops_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/sops"
)

// refuse opens a file with all identities and wants it refused by a rule.
func refuse(t *testing.T, name string, data []byte, rule string) *fleet.Diagnostic {
	t.Helper()
	_, ok, bad := (&sops.Keyring{Trusted: everyone(t)}).For(fleet.TierTrusted).Decrypt(name, data)
	if !ok || bad == nil || bad.Rule != rule || bad.Severity != fleet.SeverityError {
		t.Fatalf("encrypted %t, %v; want %s", ok, bad, rule)
	}
	if bad.File != name || bad.Line < 1 || bad.Col < 1 {
		t.Errorf("position %s", bad.Position)
	}
	for _, secret := range []string{"hunter2hunter2", "two words", "AGE-SECRET"} {
		if strings.Contains(bad.Message+bad.Hint, secret) {
			t.Errorf("the diagnostic holds a secret: %s", bad)
		}
	}
	return bad
}

func replaced(t *testing.T, data []byte, old, now string) []byte {
	t.Helper()
	if !bytes.Contains(data, []byte(old)) {
		t.Fatalf("the fixture has no %q", old)
	}
	return bytes.Replace(data, []byte(old), []byte(now), 1)
}

// until returns a copy of a file up to a text.
func until(t *testing.T, data []byte, text string) []byte {
	t.Helper()
	before, _, found := bytes.Cut(data, []byte(text))
	if !found {
		t.Fatalf("the fixture has no %q", text)
	}
	return bytes.Clone(before)
}

// line returns the line of a file that begins with a text.
func line(t *testing.T, data []byte, begin string) string {
	t.Helper()
	for l := range strings.Lines(string(data)) {
		if strings.HasPrefix(strings.TrimSpace(l), begin) {
			return l
		}
	}
	t.Fatalf("no line begins with %q", begin)
	return ""
}

// TestChangedFilesAreRefused is X01: whatever was done to a file by someone without keys.
func TestChangedFilesAreRefused(t *testing.T) {
	env, yaml := read(t, "sops", "all.env"), read(t, "sops", "part.yaml")
	plain, quoted := line(t, env, "PLAIN="), line(t, env, "QUOTED=")
	swapped := replaced(t, env, plain, "PLAIN="+strings.TrimPrefix(quoted, "QUOTED="))
	swapped = replaced(t, swapped, quoted, "QUOTED="+strings.TrimPrefix(plain, "PLAIN="))
	for name, c := range map[string]struct {
		file string
		data []byte
		rule string
	}{
		"values swapped":              {"a.env", swapped, "sops-mac"},
		"value removed":               {"a.env", replaced(t, env, plain, ""), "sops-mac"},
		"key renamed":                 {"a.env", replaced(t, env, "PLAIN=", "PLAIM="), "sops-mac"},
		"plain value changed":         {"a.env", replaced(t, env, "PORT_unencrypted=8080", "PORT_unencrypted=8081"), "sops-mac"},
		"plain value added":           {"a.env", replaced(t, env, "EMPTY=\n", "EMPTY=\nNEW_unencrypted=1\n"), "sops-mac"},
		"plain text among encrypted":  {"a.env", replaced(t, env, "EMPTY=\n", "EMPTY=x\n"), "sops-not-encrypted"},
		"no MAC":                      {"a.env", replaced(t, env, line(t, env, "sops_mac="), ""), "sops-mac"},
		"empty MAC":                   {"a.env", replaced(t, env, line(t, env, "sops_mac="), "sops_mac=\n"), "sops-mac"},
		"MAC of another file":         {"a.env", replaced(t, env, line(t, env, "sops_mac="), line(t, read(t, "sops", "regex.env"), "sops_mac=")), "sops-mac"},
		"time changed":                {"a.env", replaced(t, env, line(t, env, "sops_lastmodified="), "sops_lastmodified=2001-01-01T00:00:00Z\n"), "sops-mac"},
		"time missing":                {"a.env", replaced(t, env, line(t, env, "sops_lastmodified="), ""), "sops-format"},
		"rule changed":                {"a.env", replaced(t, env, "sops_unencrypted_suffix=_unencrypted", "sops_unencrypted_suffix=PLAIN"), "sops-not-encrypted"},
		"two rules":                   {"a.env", replaced(t, env, "sops_version", "sops_encrypted_regex=.*\nsops_version"), "sops-format"},
		"cut off before the block":    {"a.yaml", append(until(t, yaml, "\nsops:"), '\n'), "sops-format"},
		"cut off in the block":        {"a.yaml", until(t, yaml, "lastmodified:"), "sops-mac"},
		"cut off in a value":          {"a.yaml", append(until(t, yaml, "ENC["), "ENC[AES256_GCM,data:AAAA"...), "sops-format"},
		"JSON cut off":                {"a.json", read(t, "sops", "all.json")[:200], "sops-format"},
		"mac_only_encrypted":          {"a.yaml", read(t, "sops", "maconly.yaml"), "sops-mac"},
		"key there twice":             {"a.yaml", replaced(t, yaml, "unmarked:", "marked:"), "sops-format"},
		"MAC is no longer whole":      {"a.env", replaced(t, env, "sops_mac=ENC[AES256_GCM,data:", "sops_mac=ENC[AES256_GCM,data:AAAA"), "sops-mac"},
		"nothing encrypted, with MAC": {"a.yaml", []byte("a: plain\n" + strings.TrimPrefix(string(yaml), string(until(t, yaml, "sops:\n")))), "sops-not-encrypted"},
		"nothing at all is encrypted": {"a.yaml", []byte("a: plain\nsops:\n  mac: x\n  lastmodified: '2024-01-01T00:00:00Z'\n  age: [{recipient: " + everyone(t).Recipients()[0].ID + ", enc: x}]\n"), "sops-not-encrypted"},
	} {
		t.Run(name, func(t *testing.T) {
			refuse(t, c.file, c.data, c.rule)
		})
	}
}

// TestFilesForOtherKeys is X02.
func TestFilesForOtherKeys(t *testing.T) {
	for name, ids := range map[string]*sops.Identities{"no identity": nil, "another one": identities(t, "other"), "another kind": identities(t, "pgp")} {
		_, ok, bad := (&sops.Keyring{Trusted: ids}).For(fleet.TierTrusted).Decrypt("x.yaml", read(t, "sops", "both.yaml"))
		if !ok || bad == nil || bad.Rule != "sops-key" || !strings.Contains(bad.Message, identities(t, "old").Recipients()[0].ID[:20]) {
			t.Errorf("%s: %v", name, bad)
		}
	}
	for _, key := range []string{"old", "new"} {
		open(t, "both.yaml", read(t, "sops", "both.yaml"), identities(t, "other", key))
	}
}

// TestTiers is X07: the identity follows the server, not the file.
func TestTiers(t *testing.T) {
	ring := &sops.Keyring{Trusted: identities(t, "old"), Untrusted: identities(t, "new")}
	for _, c := range []struct {
		file string
		tier fleet.Tier
		rule string
	}{
		{"part.yaml", fleet.TierTrusted, ""},
		{"part.yaml", fleet.TierUntrusted, "sops-tier"},
		{"both.yaml", fleet.TierUntrusted, ""},
		{"mixed.yaml", fleet.TierTrusted, ""}, // for the untrusted identity
		{"ssh.yaml", fleet.TierUntrusted, "sops-key"},
	} {
		got := ""
		plain, _, bad := ring.For(c.tier).Decrypt(c.file, read(t, "sops", c.file))
		if bad != nil {
			got = bad.Rule
		}
		if got != c.rule || (c.rule == "") != (len(plain.Data) > 0) {
			t.Errorf("%s on a %s server: %q, want %q (%d bytes)", c.file, c.tier, got, c.rule, len(plain.Data))
		}
	}
}

// TestOldIdentities is X09.
func TestOldIdentities(t *testing.T) {
	ring := &sops.Keyring{Trusted: identities(t, "old", "new")}
	for file, want := range map[string]string{"part.yaml": "sops-old-key", "both.yaml": ""} {
		plain, _, bad := ring.For(fleet.TierTrusted).Decrypt(file, read(t, "sops", file))
		got := ""
		if bad != nil {
			got = bad.Rule
		}
		if got != want || len(plain.Data) == 0 {
			t.Errorf("%s: %v", file, bad)
		}
	}
}

// TestKeyServicesAreNeverAsked is X03. Nothing is contacted and no program is started: the
// file is refused for what it names.
func TestKeyServicesAreNeverAsked(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	contacted := make(chan struct{}, 16)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
			contacted <- struct{}{}
		}
	}()
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	script := []byte("#!/bin/sh\ntouch " + ran + "\n")
	for _, program := range []string{"gpg", "age-plugin-evil", "trap"} {
		if err := os.WriteFile(filepath.Join(dir, program), script, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, name := range []string{"SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_CMD", "SOPS_GPG_EXEC"} {
		t.Setenv(name, filepath.Join(dir, "trap"))
	}
	t.Setenv("VAULT_TOKEN", "core's own")
	url := "http://" + listener.Addr().String()
	good := string(read(t, "sops", "part.yaml"))
	for name, block := range map[string]string{
		"kms":           "kms: [{arn: 'arn:aws:kms:us-east-1:1:key/x', enc: x, created_at: '2024-01-01T00:00:00Z', aws_profile: ''}]",
		"gcp_kms":       "gcp_kms: [{resource_id: projects/x, enc: x, created_at: '2024-01-01T00:00:00Z'}]",
		"azure_kv":      "azure_kv: [{vault_url: '" + url + "', name: x, version: y, enc: x, created_at: '2024-01-01T00:00:00Z'}]",
		"hc_vault":      "hc_vault: [{vault_address: '" + url + "', engine_path: x, key_name: y, enc: x, created_at: '2024-01-01T00:00:00Z'}]",
		"hckms":         "hckms: [{key_id: x, enc: x, created_at: '2024-01-01T00:00:00Z'}]",
		"of the future": "quantum_kms: [{url: '" + url + "'}]",
		"key groups":    "key_groups: [{age: [], hc_vault: [{vault_address: '" + url + "'}]}, {age: []}]",
		"shamir":        "shamir_threshold: 2",
	} {
		t.Run(name, func(t *testing.T) {
			data := strings.Replace(good, "\nsops:\n", "\nsops:\n    "+block+"\n", 1)
			refuse(t, "x.yaml", []byte(data), "sops-backend")
		})
	}
	t.Run("age plugin", func(t *testing.T) {
		plugin := "age1evil1qqqqqqqqqqqqqqqq"
		data := replaced(t, []byte(good), everyone(t).Recipients()[0].ID, plugin)
		refuse(t, "x.yaml", data, "sops-backend")
		if err := new(sops.Identities).AddAge([]byte("AGE-PLUGIN-EVIL-1QQQQ\n")); err == nil {
			t.Error("an identity that is a program is accepted")
		}
		if _, err := sops.Encrypt("x.env", sops.Dotenv, []byte("A=1\n"), []sops.Recipient{{Kind: sops.KindAge, ID: plugin}}, sops.Rule{}, nil, now); err == nil {
			t.Error("a recipient that is a program is encrypted for")
		}
	})
	t.Run("PGP key that is not here", func(t *testing.T) {
		_, _, bad := (&sops.Keyring{Trusted: identities(t, "pgp-curve")}).For(fleet.TierTrusted).Decrypt("x.yaml", read(t, "sops", "pgp.yaml"))
		if bad == nil || bad.Rule != "sops-key" {
			t.Errorf("%v", bad)
		}
	})
	t.Run("no identity at all", func(t *testing.T) {
		_, _, bad := (&sops.Keyring{}).For(fleet.TierTrusted).Decrypt("x.yaml", []byte(good))
		if bad == nil || bad.Rule != "sops-key" {
			t.Errorf("%v", bad)
		}
	})
	if _, err := os.Stat(ran); err == nil {
		t.Error("a program was started")
	}
	if len(contacted) > 0 {
		t.Error("an address out of a file was contacted")
	}
}

// TestOrdinaryFiles is X04: what only looks like an encrypted file.
func TestOrdinaryFiles(t *testing.T) {
	for name, text := range map[string]string{
		"a key of the name": "sops:\n  enabled: true\n  version: 3\n",
		"a scalar":          "sops: yes\n",
		"a service":         "services:\n  sops:\n    image: getsops/sops:v3\n",
		"a page about it":   "# SOPS\n\nValues look like this:\n\n```yaml\npassword: ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]\n```\n",
		"a mention":         "# encrypted with sops, ENC[AES256_GCM,data: is how it begins\nkey: value\n",
		"JSON":              `{"sops": {"on": true}, "a": [1, 2]}`,
		"INI":               "[sops]\non = true\n",
		"broken YAML":       "sops: [\n",
		"environment":       "sops_user=me\nA=1\n",
		"bytes":             "sops\xff\xfeENC[AES256_GCM,data:",
	} {
		for _, tier := range []fleet.Tier{fleet.TierTrusted, fleet.TierUntrusted} {
			if _, ok, bad := (&sops.Keyring{}).For(tier).Decrypt("file", []byte(text)); ok || bad != nil {
				t.Errorf("%s: encrypted %t, %v", name, ok, bad)
			}
		}
	}
}

// TestPlainTextThatPretends is X05.
func TestPlainTextThatPretends(t *testing.T) {
	for name, want := range map[string]bool{
		"web/secrets.enc.yaml": true, "a.sops.env": true, ".sops.yaml": false, "a.yaml": false, "encode.yaml": false,
	} {
		_, ok, bad := (&sops.Keyring{}).For(fleet.TierTrusted).Decrypt(name, []byte("password: plain\n"))
		if ok || (bad != nil) != want || want && (bad.Rule != "sops-not-encrypted" || bad.Severity != fleet.SeverityWarning) {
			t.Errorf("%s: %t, %v", name, ok, bad)
		}
	}
}

// TestLimits is X06.
func TestLimits(t *testing.T) {
	to := identities(t, "old").Recipients()
	encrypt := func(size int) ([]byte, error) {
		text := "A=" + strings.Repeat("x", size) + "\n"
		return sops.Encrypt("x.env", sops.Dotenv, []byte(text), to, sops.Rule{}, nil, now)
	}
	for _, size := range []int{64<<10 - 1, 64 << 10} {
		data, err := encrypt(size)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(open(t, "x.env", data, everyone(t)).Values[0]); got != size {
			t.Errorf("a value of %d bytes has %d", size, got)
		}
	}
	if _, err := encrypt(64<<10 + 1); err == nil {
		t.Error("a value that is too large is encrypted")
	}
	large := replaced(t, read(t, "sops", "all.env"), "PLAIN=ENC[AES256_GCM,data:", "PLAIN=ENC[AES256_GCM,data:"+strings.Repeat("AAAA", 22<<10))
	refuse(t, "x.env", large, "sops-too-large")
	huge := append(read(t, "sops", "all.env"), bytes.Repeat([]byte("# more\n"), 1<<18)...)
	refuse(t, "x.env", huge, "sops-too-large")
	var bomb strings.Builder
	bomb.WriteString("a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n")
	for c := 'b'; c <= 'i'; c++ {
		fmt.Fprintf(&bomb, "%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	yaml := string(read(t, "sops", "part.yaml"))
	refuse(t, "x.yaml", []byte(bomb.String()+yaml), "sops-too-large")
	refuse(t, "x.yaml", []byte("deep: "+strings.Repeat("[", 80)+strings.Repeat("]", 80)+"\n"+yaml), "sops-too-large")
}

// TestOddValues is the rest of X06: a value stays one value, whatever is in it.
func TestOddValues(t *testing.T) {
	ids := identities(t, "old")
	want := map[sops.Format]string{
		sops.Dotenv: "A=one\\nEVIL=1\nB=$(id) ${X} `id` $$ \" '\nC=\x00nul\n",
		sops.YAML:   "a: |-\n    one\n    EVIL: 1\nb: $(id) ${X}\nc: \"nul \\0\"\n",
		sops.JSON:   "{\n\t\"a\": \"one\\nEVIL=1\",\n\t\"c\": \"\\u0000\"\n}\n",
		sops.Binary: "one\r\nEVIL=1\n\x00 $(id)",
	}
	for format, text := range want {
		data, err := sops.Encrypt("x", format, []byte(text), ids.Recipients(), sops.Rule{}, nil, now)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(text, string(open(t, "x", data, ids).Data)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

// TestKeyFiles is X08, but for the mode of the file, which is its reader's business.
func TestKeyFiles(t *testing.T) {
	old := new(sops.Identities)
	if err := old.AddAge(append(read(t, "keys", "old.key"), read(t, "keys", "new.key")...)); err != nil || len(old.Recipients()) != 2 {
		t.Errorf("two identities in a file: %v, %v", old.Recipients(), err)
	}
	for name, data := range map[string][]byte{
		"empty":                     nil,
		"comments only":             []byte("# public key: age1...\n"),
		"passphrase":                []byte("-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n"),
		"passphrase, not armoured":  []byte("age-encryption.org/v1\n-> scrypt x 18\n"),
		"SSH key with a passphrase": read(t, "keys", "ssh-locked.key"),
		"a recipient":               []byte(identities(t, "old").Recipients()[0].ID),
		"damaged":                   []byte("AGE-SECRET-KEY-1QQQQ\n"),
	} {
		err := new(sops.Identities).AddAge(data)
		if err == nil {
			t.Errorf("%s is accepted", name)
		} else if strings.Contains(err.Error(), "AGE-SECRET") {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
	}
	if err := new(sops.Identities).AddPGP(read(t, "keys", "pgp.pub.asc")); err == nil {
		t.Error("a public PGP key is an identity")
	}
}
