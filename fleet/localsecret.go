package fleet

import (
	"fmt"
	"regexp"
)

// localToken is how a local secret is written where its value will be.
var localToken = regexp.MustCompile(LocalMark + `([A-Za-z0-9_.-]{1,128}):([A-Za-z0-9]{1,64})@`)

// Valid reports whether the name and the version can stand in a token.
func (s LocalSecret) Valid() bool {
	token := s.Token()
	return localToken.FindString(token) == token
}

// LocalMark is how the Token of every local secret begins.
const LocalMark = "@varan-local-secret:"

// Token stands for the secret in a resolved model, an environment file or a command, until
// the agent puts the value there. It holds the version, so that a new value is a change.
func (s LocalSecret) Token() string {
	return fmt.Sprintf("%s%s:%s@", LocalMark, s.Name, s.Version)
}

// ReplaceLocalSecrets puts values in the place of tokens. value returns false for a name
// it does not know; the first such name is returned.
func ReplaceLocalSecrets(text string, value func(name string) (string, bool)) (out, unknown string) {
	out = localToken.ReplaceAllStringFunc(text, func(token string) string {
		name := localToken.FindStringSubmatch(token)[1]
		v, ok := value(name)
		if !ok && unknown == "" {
			unknown = name
		}
		return v
	})
	return out, unknown
}
