package web_test

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/varanhq/varan/core/web"
)

// FuzzParseRef holds the streaming parser to the ordinary one.
func FuzzParseRef(f *testing.F) {
	for _, seed := range []string{
		pushBody, `{}`, `{"ref":null}`, `{"a":[{"ref":"x"}],"ref":"y"}`, `{"":{"":[]},"ref":"z"}`, `[`, `{"ref":"a","ref":"b"}`, `{"ref":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		ref, err := web.ParseRef(body)
		if err != nil {
			return
		}
		var whole map[string]any
		if err := json.Unmarshal(body, &whole); err != nil {
			t.Fatalf("%q is accepted and is no object: %v", body, err)
		}
		want, _ := whole["ref"].(string)
		if ref != want {
			t.Errorf("%q: ref %q, want %q", body, ref, want)
		}
	})
}

func FuzzParseSignature(f *testing.F) {
	f.Add("sha256=" + strings.Repeat("0a", 32))
	f.Add("sha256=")
	f.Add("sha1=00")
	f.Fuzz(func(t *testing.T, value string) {
		signature, err := web.ParseSignature([]string{value})
		if err == nil && "sha256="+hex.EncodeToString(signature) != value {
			t.Errorf("%q is accepted and not canonical", value)
		}
	})
}
