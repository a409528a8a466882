package compose_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/sops"
)

// vault is a pair of identities and what encrypts for them.
type vault struct{ trusted, untrusted *sops.Identities }

func newVault(tb testing.TB) vault {
	tb.Helper()
	v := vault{&sops.Identities{}, &sops.Identities{}}
	for _, ids := range []*sops.Identities{v.trusted, v.untrusted} {
		file, _, err := sops.GenerateAge(time.Unix(0, 0))
		if err != nil {
			tb.Fatal(err)
		}
		if err := ids.AddAge(file); err != nil {
			tb.Fatal(err)
		}
	}
	return v
}

func (v vault) decrypter(tier fleet.Tier) compose.Decrypter {
	return (&sops.Keyring{Trusted: v.trusted, Untrusted: v.untrusted}).For(tier)
}

// encrypt encrypts a text for the trusted identity.
func (v vault) encrypt(tb testing.TB, name, text string, rule sops.Rule) string {
	tb.Helper()
	data, err := sops.Encrypt(name, sops.FormatOf(name), []byte(text), v.trusted.Recipients(), rule, nil, time.Unix(0, 0))
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}

const (
	dbPassword = "pa$$word-of-the-database"
	apiToken   = "token-9f8e7d6c"
	inlinePass = "inline-Secret-77"
	includeKey = "included-Key-55"
)

// encryptedRepo has an encrypted file everywhere one can be.
func encryptedRepo(tb testing.TB, v vault) map[string]string {
	tb.Helper()
	all := sops.Rule{}
	return map[string]string{
		"compose.yaml": v.encrypt(tb, "compose.yaml", `
include: [more/compose.yaml]
services:
  app:
    image: example.com/app:${TAG}
    command: ["serve", "--token", "${API_TOKEN}"]
    environment:
      PASSWORD: `+inlinePass+`
      URL: postgres://app:${DB_PASSWORD}@db/app
    env_file: [app.env]
    volumes: ["./conf:/etc/app", "./single.yaml:/single.yaml:ro"]
    secrets: [token]
    configs: [settings]
secrets: {token: {file: token.txt}}
configs: {settings: {file: settings.json}}
`, sops.Rule{EncryptedRegex: "^PASSWORD$"}),
		".env":              v.encrypt(tb, ".env", "TAG=1\nDB_PASSWORD='"+dbPassword+"'\nAPI_TOKEN="+apiToken+"\n", all),
		"app.env":           v.encrypt(tb, "app.env", "APP_KEY=\"key with spaces\"\nDEBUG=true\n", all),
		"conf/plain.conf":   "public\n",
		"conf/secret.yaml":  v.encrypt(tb, "secret.yaml", "hidden: "+apiToken+"\n", all),
		"single.yaml":       v.encrypt(tb, "single.yaml", "a: "+apiToken+"\n", all),
		"token.txt":         v.encrypt(tb, "token.txt", apiToken, all),
		"settings.json":     v.encrypt(tb, "settings.json", `{"password": "`+dbPassword+`"}`, all),
		"more/compose.yaml": v.encrypt(tb, "compose.yaml", "services:\n  more:\n    image: m:1\n    environment:\n      KEY: "+includeKey+"\n", sops.Rule{EncryptedRegex: "^KEY$"}),
	}
}

func TestEncryptedFilesAreOpenedEverywhere(t *testing.T) {
	v := newVault(t)
	req := request(files(encryptedRepo(t, v)))
	req.Decrypter = v.decrypter(fleet.TierTrusted)
	result := mustLoad(t, req)
	model := blob(t, result, req, result.Release.Model)
	for _, want := range []string{
		"example.com/app:1", `"` + inlinePass + `"`, "postgres://app:" + dbPassword + "@db/app",
		`"--token",`, `"` + apiToken + `"`, `"key with spaces"`, includeKey,
	} {
		if !strings.Contains(strings.ReplaceAll(model, "$$", "$"), strings.ReplaceAll(want, "$$", "$")) {
			t.Errorf("the model lacks %q:\n%s", want, model)
		}
	}
	if !result.Release.SecretModel {
		t.Error("a host would keep the model on its disk")
	}
	got := map[string]string{}
	for _, f := range result.Release.Files {
		text := blob(t, result, req, f.Digest)
		if !f.Salted {
			got[f.Path] = text
			continue
		}
		salt, rest, _ := strings.Cut(text, "\n")
		if !f.Secret || !strings.HasPrefix(salt, "# hmac:") {
			t.Errorf("%s: secret %t, first line %q", f.Path, f.Secret, salt)
		}
		got[f.Path] = "salted " + rest
	}
	want := map[string]string{
		"conf/plain.conf":  "public\n",
		"conf/secret.yaml": "salted hidden: " + apiToken + "\n",
		"single.yaml":      "salted a: " + apiToken + "\n",
		"token.txt":        "salted " + apiToken,
		"settings.json":    "salted {\n\t\"password\": \"" + dbPassword + "\"\n}\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestDecryptedValuesAreNotInWhatIsShown(t *testing.T) {
	v := newVault(t)
	req := request(files(encryptedRepo(t, v)))
	req.Decrypter = v.decrypter(fleet.TierTrusted)
	result, findings := compose.Load(t.Context(), req)
	shown, err := json.Marshal([]any{result.Release, findings})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{dbPassword, apiToken, inlinePass, includeKey, "key with spaces", "database"} {
		if strings.Contains(string(shown), secret) {
			t.Errorf("%q is in the release or a finding:\n%s", secret, shown)
		}
	}
	wantFinding(t, findings, fleet.SeverityNote, "weak-secret", "app.env:1:1")
	if f := fieldOf(t, service(t, result, "app"), "image"); f.Keyed == "" {
		t.Errorf("the image, made of an encrypted variable, is shown: %+v", f)
	}
}

// TestDigestsOfEncryptedContent: they say nothing to those without the key, and change
// with the content only.
func TestDigestsOfEncryptedContent(t *testing.T) {
	v := newVault(t)
	repo := encryptedRepo(t, v)
	load := func(repo map[string]string, key string) compose.Result {
		req := request(files(repo))
		req.Decrypter, req.Key = v.decrypter(fleet.TierTrusted), []byte(key)
		return mustLoad(t, req)
	}
	before := load(repo, "key")
	if again := load(encryptedRepo(t, v), "key"); again.Release.Digest != before.Release.Digest {
		t.Error("the same content, encrypted again, has another digest")
	}
	other := load(repo, "another key")
	for i, f := range before.Release.Files {
		if f.Salted && f.Digest == other.Release.Files[i].Digest {
			t.Errorf("the digest of %s does not depend on the key: it can be guessed at", f.Path)
		}
	}
	if service(t, before, "app").Digest == service(t, other, "app").Digest {
		t.Error("the digest of the service does not depend on the key")
	}
	for name, text := range map[string]string{
		"app.env": "APP_KEY=\"other key\"\nDEBUG=true\n", "conf/secret.yaml": "hidden: other-value\n", "token.txt": "other-token",
	} {
		changed := maps.Clone(repo)
		changed[name] = v.encrypt(t, name, text, sops.Rule{})
		now := load(changed, "key")
		if service(t, now, "app").Digest == service(t, before, "app").Digest {
			t.Errorf("a change in %s does not recreate the service that uses it", name)
		}
		if service(t, now, "more").Digest != service(t, before, "more").Digest {
			t.Errorf("a change in %s recreates a service that does not use it", name)
		}
	}
}

// TestOneVariableStaysOne: a value from an encrypted environment file is not taken apart.
func TestOneVariableStaysOne(t *testing.T) {
	v := newVault(t)
	req := request(files(map[string]string{
		"compose.yaml": "services: {app: {image: a:1, env_file: [x.env]}}\n",
		"x.env":        v.encrypt(t, "x.env", "A='one\\nEVIL=1'\nB='$(id) ${HOME} `id`'\nC=plain\n", sops.Rule{}),
	}))
	req.Decrypter = v.decrypter(fleet.TierTrusted)
	result := mustLoad(t, req)
	_, text, _ := strings.Cut(blob(t, result, req, result.Release.Model), "\n")
	var model struct {
		Services map[string]struct{ Environment map[string]string }
	}
	if err := json.Unmarshal([]byte(text), &model); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"A": `one\nEVIL=1`, "B": "$(id) ${HOME} `id`", "C": "plain"}
	if diff := cmp.Diff(want, model.Services["app"].Environment); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestBuildContextsGetNoPlaintext(t *testing.T) {
	v := newVault(t)
	secret := v.encrypt(t, "secret.yaml", "a: "+apiToken+"\n", sops.Rule{})
	req := request(files(map[string]string{
		"compose.yaml":   "services: {app: {build: ./src}, other: {image: o:1, volumes: [\"./src/both.yaml:/x\"]}}\n",
		"src/Dockerfile": "FROM scratch\n", "src/secret.yaml": secret, "src/both.yaml": secret,
	}))
	req.Decrypter = v.decrypter(fleet.TierTrusted)
	result := mustLoad(t, req)
	for _, f := range result.Release.Files {
		if want := f.Path == "src/both.yaml"; f.Salted != want {
			t.Errorf("%s is decrypted: %t, want %t", f.Path, f.Salted, want)
		}
	}
}

func TestEncryptedFilesThatCannotBeUsed(t *testing.T) {
	v := newVault(t)
	stack := "services: {app: {image: a:1, env_file: [x.env], volumes: [\"./conf:/conf\"]}}\n"
	good := v.encrypt(t, "x.env", "A=1234567890ab\n", sops.Rule{})
	plain := map[string]string{"compose.yaml": stack, "x.env": "A=1\n", "conf/a": "a"}
	for name, c := range map[string]struct {
		change   map[string]string
		tier     fleet.Tier
		severity fleet.Severity
		rule     string
		place    string
	}{
		"trusted file on an untrusted server": {
			map[string]string{"x.env": good}, fleet.TierUntrusted, fleet.SeverityError, "sops-tier", "x.env:2:1",
		},
		"trusted file in a directory of an untrusted server": {
			map[string]string{"conf/b.env": good}, fleet.TierUntrusted, fleet.SeverityError, "sops-tier", "conf/b.env:2:1",
		},
		"changed": {
			map[string]string{"x.env": strings.Replace(good, "A=ENC[AES256_GCM,data:", "A=ENC[AES256_GCM,data:AAAA", 1)},
			fleet.TierTrusted, fleet.SeverityError, "sops-mac", "x.env:1:1",
		},
		"label_file": {
			map[string]string{"compose.yaml": "services: {app: {image: a:1, label_file: x.env}}\n", "x.env": good},
			fleet.TierTrusted, fleet.SeverityError, "secret-in-label", "compose.yaml:1:42",
		},
		"plain text named as encrypted": {
			map[string]string{"conf/a.enc.yaml": "password: plain\n"},
			fleet.TierTrusted, fleet.SeverityWarning,
			"sops-not-encrypted", "conf/a.enc.yaml:1:1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			repo := maps.Clone(plain)
			maps.Copy(repo, c.change)
			req := request(files(repo))
			req.Tier, req.Decrypter = c.tier, v.decrypter(c.tier)
			_, findings := compose.Load(t.Context(), req)
			wantFinding(t, findings, c.severity, c.rule, c.place)
			if got := findings.HasErrors(); got != (c.severity == fleet.SeverityError) {
				t.Errorf("errors: %t; %v", got, findings)
			}
		})
	}
}

// TestLockedFilesOffline: without the identity all is checked that can be, and nothing of
// what is not known is an error.
func TestLockedFilesOffline(t *testing.T) {
	v := newVault(t)
	repo := encryptedRepo(t, v)
	none := (&sops.Keyring{Offline: true}).For(fleet.TierTrusted)
	req := request(files(repo))
	req.Offline, req.Decrypter = true, none
	result, findings := compose.Load(t.Context(), req)
	if findings.HasErrors() {
		t.Errorf("errors: %v", findings)
	}
	wantFinding(t, findings, fleet.SeverityNote, "sops-key", "")
	if result.Release.Digest == "" {
		t.Error("a stack that can be checked has no release")
	}

	req = request(files(map[string]string{
		"compose.yaml": "services: {app: {image: \"a:${TAG}\", ports: [\"${PORT}:80\"], mem_limit: \"${MEM}\", hostname: \"${NOWHERE}\"}}\n",
		".env":         v.encrypt(t, ".env", "TAG=1\nPORT=8080-nonsense\nMEM=1g\n", sops.Rule{}),
	}))
	req.Decrypter = none
	_, findings = compose.Load(t.Context(), req)
	wantFinding(t, findings, fleet.SeverityError, "undefined-variable", "")
	for _, d := range findings {
		if d.Severity == fleet.SeverityError && !strings.Contains(d.Message, "NOWHERE") {
			t.Errorf("an encrypted value makes an error: %s", d)
		}
	}
}
