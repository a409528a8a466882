// Package githook makes the request by which a Git host tells core of a push, signed as
// GitHub signs it. The demo, the end-to-end tests and the benchmarks play the host with it.
package githook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/varanhq/varan/fleet"
)

// Push is one push to tell of.
type Push struct {
	// Core is like "http://127.0.0.1:9120".
	Core string
	// Kind is "sync", "stack", "repo" or "procedure"; Name names one of them, and Action is
	// what to do with it: "sync", "deploy".
	Kind, Name, Action string
	// Secret is its webhook secret.
	Secret fleet.Secret
	Branch string
	// ID makes the delivery unlike others: the commit, or a number.
	ID string
}

// Request is the signed request.
func (p Push) Request(ctx context.Context) (*http.Request, error) {
	body, err := json.Marshal(map[string]string{"ref": "refs/heads/" + p.Branch, "after": p.ID})
	if err != nil {
		return nil, fmt.Errorf("encode a push: %w", err)
	}
	url := p.Core + "/listener/github/" + p.Kind + "/" + p.Name + "/" + p.Action
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make a push: %w", err)
	}
	mac := hmac.New(sha256.New, []byte(p.Secret.Reveal()))
	mac.Write(body)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-GitHub-Event", "push")
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	return req, nil
}
