// Package commitsig tells whether a Git commit is signed by a key that is accepted, with SSH
// keys (OpenSSH's SSHSIG format, namespace "git") and OpenPGP keys, as `git verify-commit`
// does. It reads nothing but what it is given.
package commitsig

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// namespace is what Git signs commits for with SSH keys.
const namespace = "git"

var (
	// ErrUnsigned: the commit has no signature.
	ErrUnsigned = errors.New("it is not signed")
	// ErrUnknownKey: it is signed by a key that is not among the accepted ones.
	ErrUnknownKey = errors.New("it is signed by a key that is not accepted")
	// ErrInvalid: the signature does not belong to the commit, or is none.
	ErrInvalid = errors.New("its signature is invalid")
)

// Signers are the keys whose signatures are accepted. The zero value accepts none.
type Signers struct {
	ssh []sshSigner
	pgp openpgp.EntityList
}

// sshSigner is a line of an allowed_signers file.
type sshSigner struct {
	principals string
	key        string // in SSH's own encoding
	// after and before bound the time of the commits that the key may sign; zero does not.
	after, before time.Time
}

// KeysError says which key cannot be read.
type KeysError struct {
	// Line of the text, from 1; zero for OpenPGP keys.
	Line    int
	Message string
}

// Error names the line.
func (e *KeysError) Error() string {
	if e.Line == 0 {
		return "OpenPGP keys: " + e.Message
	}
	return fmt.Sprintf("allowed signers, line %d: %s", e.Line, e.Message)
}

// Parse reads keys: an allowed_signers file as of ssh-keygen(1), or authorized_keys lines, and
// armored OpenPGP public keys. Either may be empty. The error is a *KeysError.
func Parse(allowedSigners, pgpKeys string) (Signers, error) {
	var s Signers
	number := 0
	for line := range strings.Lines(allowedSigners) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		signer, ok, err := parseLine(line)
		if err != nil {
			return Signers{}, &KeysError{Line: number, Message: err.Error()}
		}
		if ok {
			s.ssh = append(s.ssh, signer)
		}
	}
	rest := strings.TrimSpace(pgpKeys)
	for rest != "" {
		block, after, ok := cutArmor(rest)
		if !ok {
			return Signers{}, &KeysError{Message: "text that is no armored public key"}
		}
		list, err := openpgp.ReadArmoredKeyRing(strings.NewReader(block))
		if err != nil {
			return Signers{}, &KeysError{Message: err.Error()}
		}
		for _, entity := range list {
			if entity.PrivateKey != nil {
				return Signers{}, &KeysError{Message: "that is a private key; export the public one"}
			}
		}
		s.pgp, rest = append(s.pgp, list...), strings.TrimSpace(after)
	}
	return s, nil
}

// cutArmor takes one armored block off a text.
func cutArmor(text string) (block, rest string, ok bool) {
	const begin, end = "-----BEGIN PGP", "-----END PGP"
	if !strings.HasPrefix(text, begin) {
		return "", "", false
	}
	at := strings.Index(text, end)
	if at < 0 {
		return "", "", false
	}
	stop := len(text)
	if n := strings.IndexByte(text[at:], '\n'); n >= 0 {
		stop = at + n
	}
	return text[:stop] + "\n", text[stop:], true
}

// Empty reports whether no signature at all is accepted.
func (s Signers) Empty() bool { return len(s.ssh) == 0 && len(s.pgp) == 0 }

// Names says who the signers are.
func (s Signers) Names() []string {
	var names []string
	for _, one := range s.ssh {
		names = append(names, one.principals)
	}
	for _, entity := range s.pgp {
		names = append(names, nameOf(entity))
	}
	return names
}

// parseLine reads "principals [options] type key [comment]", or the same without principals.
// A key that is not for signing commits is left out.
func parseLine(line string) (signer sshSigner, ok bool, err error) {
	principals, rest, _ := strings.Cut(line, " ")
	if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil && isKeyType(principals) {
		principals, rest = "", line
	}
	key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil {
		return sshSigner{}, false, errors.New("it is not \"PRINCIPALS [OPTIONS] KEY-TYPE KEY\"")
	}
	if principals == "" {
		if principals = comment; principals == "" {
			principals = ssh.FingerprintSHA256(key)
		}
	}
	signer = sshSigner{principals: strings.Trim(principals, `"`), key: string(key.Marshal())}
	ok = true
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "namespaces":
			ok = forCommits(value)
		case "valid-after":
			signer.after, err = parseTime(value)
		case "valid-before":
			signer.before, err = parseTime(value)
		case "cert-authority":
			err = errors.New("certificate authorities are not supported; list the keys themselves")
		default:
			err = fmt.Errorf("unknown option %q", name)
		}
		if err != nil {
			return sshSigner{}, false, err
		}
	}
	return signer, ok, nil
}

func isKeyType(word string) bool {
	return strings.HasPrefix(word, "ssh-") || strings.HasPrefix(word, "ecdsa-") || strings.HasPrefix(word, "sk-")
}

// forCommits reports whether a list of namespaces has Git's.
func forCommits(list string) bool {
	for one := range strings.SplitSeq(list, ",") {
		if one == namespace || one == "*" {
			return true
		}
	}
	return false
}

// parseTime reads YYYYMMDD[HHMM[SS]][Z]. Without the Z it is UTC too: what is accepted must
// not depend on where core runs.
func parseTime(text string) (time.Time, error) {
	digits := strings.TrimSuffix(text, "Z")
	const layout = "20060102150405"
	if len(digits) != 8 && len(digits) != 12 && len(digits) != 14 {
		return time.Time{}, fmt.Errorf("%q is no time; write YYYYMMDD or YYYYMMDDHHMMSS", text)
	}
	t, err := time.Parse(layout[:len(digits)], digits)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time; write YYYYMMDD or YYYYMMDDHHMMSS", text)
	}
	return t, nil
}

// Verify checks the signature of a commit, which is the content of the object, and returns who
// signed it in words. The error is ErrUnsigned, ErrUnknownKey or ErrInvalid, with details.
func (s Signers) Verify(commit []byte) (by string, err error) {
	payload, signature := split(commit)
	text := strings.TrimSpace(string(signature))
	switch {
	case text == "":
		return "", ErrUnsigned
	case strings.HasPrefix(text, "-----BEGIN SSH SIGNATURE-----"):
		return s.verifySSH(payload, signature)
	case strings.HasPrefix(text, "-----BEGIN PGP SIGNATURE-----"):
		return s.verifyPGP(payload, signature)
	}
	return "", fmt.Errorf("%w: only SSH and OpenPGP signatures are known", ErrInvalid)
}

func (s Signers) verifySSH(payload, armored []byte) (string, error) {
	signature, err := sshsig.Unarmor(armored)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if signature.Signature.Format == ssh.KeyAlgoRSA {
		return "", fmt.Errorf("%w: it is made with SHA-1", ErrInvalid)
	}
	if err := sshsig.Verify(bytes.NewReader(payload), signature, signature.PublicKey, signature.HashAlgorithm, namespace); err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	fingerprint := ssh.FingerprintSHA256(signature.PublicKey)
	key, at := string(signature.PublicKey.Marshal()), committed(payload)
	reason := ""
	for _, one := range s.ssh {
		switch {
		case one.key != key:
		case !one.after.IsZero() && at.Before(one.after), !one.before.IsZero() && !at.Before(one.before):
			reason = " at that time"
		default:
			return one.principals, nil
		}
	}
	return "", fmt.Errorf("%w%s: %s", ErrUnknownKey, reason, fingerprint)
}

// split takes the signature out of a commit: what is left is what was signed.
func split(commit []byte) (payload, signature []byte) {
	inside := ""
	header := true
	for line := range bytes.Lines(commit) {
		switch {
		case !header:
		case len(line) == 1 && line[0] == '\n':
			header, inside = false, ""
		case line[0] == ' ' && inside != "":
			if inside == "gpgsig" {
				signature = append(signature, line[1:]...)
			}
			continue
		default:
			inside = ""
			name, value, _ := bytes.Cut(line, []byte(" "))
			if string(name) == "gpgsig" || string(name) == "gpgsig-sha256" {
				inside = string(name)
				if inside == "gpgsig" {
					signature = append(signature, value...)
				}
				continue
			}
		}
		payload = append(payload, line...)
	}
	return payload, signature
}

// committed is when a commit says that it was made.
func committed(payload []byte) time.Time {
	for line := range bytes.Lines(payload) {
		if len(line) <= 1 {
			break
		}
		rest, ok := bytes.CutPrefix(line, []byte("committer "))
		if !ok {
			continue
		}
		if at := bytes.LastIndexByte(rest, '>'); at >= 0 {
			words := strings.Fields(string(rest[at+1:]))
			if len(words) > 0 {
				if seconds, err := strconv.ParseInt(words[0], 10, 64); err == nil {
					return time.Unix(seconds, 0).UTC()
				}
			}
		}
	}
	return time.Time{}
}
