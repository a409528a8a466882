package commitsig_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/varanhq/varan/internal/commitsig"
)

const payload = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n" +
	"parent 1111111111111111111111111111111111111111\n" +
	"author Ada <ada@example.com> 1767225600 +0100\n" +
	"committer Ada <ada@example.com> 1767225600 +0100\n" +
	"\nA change\n\ngpgsig is a word of the message\n"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// signed puts a signature where Git has it.
func signed(payload, signature string) []byte {
	head, message, _ := strings.Cut(payload, "\n\n")
	return []byte(head + "\ngpgsig " + strings.ReplaceAll(strings.TrimSpace(signature), "\n", "\n ") + "\n\n" + message)
}

// sshKey returns a signer and its line for an allowed_signers file.
func sshKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	must(t, err)
	return signer, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

func sshSign(t *testing.T, signer ssh.Signer, text, namespace string) string {
	t.Helper()
	signature, err := sshsig.Sign(strings.NewReader(text), signer, sshsig.HashSHA512, namespace)
	must(t, err)
	return string(sshsig.Armor(signature))
}

func pgpKey(t *testing.T, name string) (entity *openpgp.Entity, public string) {
	t.Helper()
	entity, err := openpgp.NewEntity(name, "", name+"@example.com", nil)
	must(t, err)
	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
	must(t, err)
	must(t, entity.Serialize(w))
	must(t, w.Close())
	return entity, out.String() + "\n"
}

func pgpSign(t *testing.T, entity *openpgp.Entity, text string) string {
	t.Helper()
	var out bytes.Buffer
	must(t, openpgp.ArmoredDetachSign(&out, entity, strings.NewReader(text), nil))
	return out.String()
}

func TestACommitIsBelievedByItsSignature(t *testing.T) {
	ada, adaLine := sshKey(t)
	eve, _ := sshKey(t)
	grace, graceKey := pgpKey(t, "grace")
	mallory, _ := pgpKey(t, "mallory")
	_, otherKey := pgpKey(t, "other")
	byAda := sshSign(t, ada, payload, "git")
	for name, test := range map[string]struct {
		signers, pgp string
		commit       []byte
		by           string
		want         error
	}{
		"an accepted SSH key":             {"ada@example.com " + adaLine, "", signed(payload, byAda), "ada@example.com", nil},
		"a line of authorized_keys":       {adaLine + " ada's laptop", "", signed(payload, byAda), "ada's laptop", nil},
		"a key for Git alone":             {`ada namespaces="file,git" ` + adaLine, "", signed(payload, byAda), "ada", nil},
		"an accepted OpenPGP key":         {"", graceKey, signed(payload, pgpSign(t, grace, payload)), "grace <grace@example.com>", nil},
		"one of several OpenPGP keys":     {"", otherKey + graceKey, signed(payload, pgpSign(t, grace, payload)), "grace <grace@example.com>", nil},
		"in the time of the key":          {`ada valid-after="20260101",valid-before="20270101" ` + adaLine, "", signed(payload, byAda), "ada", nil},
		"no signature":                    {"ada " + adaLine, graceKey, []byte(payload), "", commitsig.ErrUnsigned},
		"no key is accepted":              {"", "", signed(payload, byAda), "", commitsig.ErrUnknownKey},
		"another SSH key":                 {"ada " + adaLine, "", signed(payload, sshSign(t, eve, payload, "git")), "", commitsig.ErrUnknownKey},
		"another OpenPGP key":             {"", graceKey, signed(payload, pgpSign(t, mallory, payload)), "", commitsig.ErrUnknownKey},
		"another purpose":                 {"ada " + adaLine, "", signed(payload, sshSign(t, ada, payload, "file")), "", commitsig.ErrInvalid},
		"a key that is for files":         {`ada namespaces="file" ` + adaLine, "", signed(payload, byAda), "", commitsig.ErrUnknownKey},
		"another commit's SSH signature":  {"ada " + adaLine, "", signed(strings.Replace(payload, "A change", "Another", 1), byAda), "", commitsig.ErrInvalid},
		"another commit's PGP signature":  {"", graceKey, signed(strings.Replace(payload, "A change", "Another", 1), pgpSign(t, grace, payload)), "", commitsig.ErrInvalid},
		"before the key's time":           {`ada valid-after="20260102" ` + adaLine, "", signed(payload, byAda), "", commitsig.ErrUnknownKey},
		"after the key's time":            {`ada valid-before="20251231235959Z" ` + adaLine, "", signed(payload, byAda), "", commitsig.ErrUnknownKey},
		"a signature that is none":        {"ada " + adaLine, graceKey, signed(payload, "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----"), "", commitsig.ErrInvalid},
		"an OpenPGP signature cut short":  {"", graceKey, signed(payload, pgpSign(t, grace, payload)[:120]), "", commitsig.ErrInvalid},
		"a certificate":                   {"ada " + adaLine, graceKey, signed(payload, "-----BEGIN SIGNED MESSAGE-----\nAAAA"), "", commitsig.ErrInvalid},
		"a signature in the message only": {"ada " + adaLine, "", []byte(payload + "gpgsig " + strings.ReplaceAll(byAda, "\n", "\n ")), "", commitsig.ErrUnsigned},
	} {
		t.Run(name, func(t *testing.T) {
			signers, err := commitsig.Parse(test.signers, test.pgp)
			must(t, err)
			by, err := signers.Verify(test.commit)
			if !errors.Is(err, test.want) || by != test.by {
				t.Errorf("Verify gave %q, %v; want %q, %v", by, err, test.by, test.want)
			}
		})
	}
}

func TestKeysThatCannotBeReadAreNamed(t *testing.T) {
	_, line := sshKey(t)
	entity, _ := pgpKey(t, "grace")
	var private bytes.Buffer
	w, err := armor.Encode(&private, openpgp.PrivateKeyType, nil)
	must(t, err)
	must(t, entity.SerializePrivate(w, nil))
	must(t, w.Close())
	for name, test := range map[string]struct{ signers, pgp, want string }{
		"no key":              {"# a comment\n\nada\n", "", "allowed signers, line 3: it is not \"PRINCIPALS [OPTIONS] KEY-TYPE KEY\""},
		"an unknown option":   {"ada colour=\"red\" " + line, "", `allowed signers, line 1: unknown option "colour"`},
		"a wrong time":        {`ada valid-after="tomorrow" ` + line, "", `allowed signers, line 1: "tomorrow" is no time; write YYYYMMDD or YYYYMMDDHHMMSS`},
		"an authority":        {"ada cert-authority " + line, "", "allowed signers, line 1: certificate authorities are not supported; list the keys themselves"},
		"no armor":            {"", "keys\n", "OpenPGP keys: text that is no armored public key"},
		"a private PGP key":   {"", private.String(), "OpenPGP keys: that is a private key; export the public one"},
		"armor without a key": {"", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := commitsig.Parse(test.signers, test.pgp)
			keys, ok := errors.AsType[*commitsig.KeysError](err)
			if !ok || test.want != "" && keys.Error() != test.want {
				t.Errorf("Parse gave %v, want %s", err, test.want)
			}
		})
	}
}

// TestGitsOwnSignaturesAreBelieved signs with git and ssh-keygen, where they are.
func TestGitsOwnSignaturesAreBelieved(t *testing.T) {
	for _, tool := range []string{"git", "ssh-keygen"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("there is no " + tool)
		}
	}
	dir := t.TempDir()
	run := func(name string, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "HOME="+dir)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v", name, args, err)
		}
		return out
	}
	key := filepath.Join(dir, "key")
	run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key)
	run("git", "init", "-q")
	run("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "gpg.format=ssh", "-c", "user.signingkey="+key,
		"commit", "-q", "-S", "--allow-empty", "-m", "signed")
	commit := run("git", "cat-file", "commit", "HEAD")
	public, err := os.ReadFile(key + ".pub")
	must(t, err)
	signers, err := commitsig.Parse("ada@example.com "+string(public), "")
	must(t, err)
	if by, err := signers.Verify(commit); err != nil || by != "ada@example.com" {
		t.Errorf("Verify gave %q, %v", by, err)
	}
	commit = bytes.Replace(commit, []byte("\n\nsigned"), []byte("\n\nSigned"), 1)
	if _, err := signers.Verify(commit); !errors.Is(err, commitsig.ErrInvalid) {
		t.Errorf("a changed message gave %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte(payload))
	f.Add(signed(payload, "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----"))
	f.Add(signed(payload, "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----"))
	f.Fuzz(func(t *testing.T, commit []byte) {
		if by, err := (commitsig.Signers{}).Verify(commit); err == nil {
			t.Errorf("nobody is accepted, and %q is", by)
		}
	})
}
