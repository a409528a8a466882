package web

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/procedure"
)

// anyBranch in the path of a procedure's webhook takes pushes to every branch.
const anyBranch = "__ANY__"

// procedureHook answers a Git host that runs a procedure. As with syncs, whatever is wrong
// with who sent it gives one and the same answer, and the payload says which branch was
// pushed and no more.
func (s *server) procedureHook(w http.ResponseWriter, r *http.Request) {
	name, branch := s.hookName(r.PathValue("name")), r.PathValue("branch")
	if rest := r.PathValue("rest"); rest != "" {
		branch += "/" + rest
	}
	d := delivery{provider: r.PathValue("provider"), kind: "procedure", name: name, action: branch}
	if d.provider != "github" && d.provider != "gitlab" || branch == "" {
		writeError(w, notFound("there is no such webhook", "POST to /listener/{github|gitlab}/procedure/{name}/{branch|__ANY__}"))
		return
	}
	var ok bool
	if d.body, ok = readHook(w, r); !ok {
		return
	}
	if err := s.authenticateProcedure(r, d, name); err != nil {
		s.refuseHook(w, r, d, err)
		return
	}
	if !s.hooks.accepted.Allow(d.provider+"/procedure/"+name, s.Now()) {
		w.Header().Set("Retry-After", "60")
		writeError(w, &api.Error{
			Status: http.StatusTooManyRequests, Code: api.CodeRateLimited, Message: "more than 60 deliveries in a minute",
		})
		return
	}
	s.acceptProcedure(w, r, d, name, branch)
}

// authenticateProcedure checks the sender. A procedure that does not exist, or has no secret,
// takes the same path as one that has, with a secret that nothing can have signed.
func (s *server) authenticateProcedure(r *http.Request, d delivery, name string) error {
	declared, _, err := s.Procedures.Declared(r.Context())
	if err != nil {
		return err
	}
	var secret fleet.Secret
	for i := range declared {
		if declared[i].Name != name || !declared[i].Webhook {
			continue
		}
		if secret = declared[i].WebhookSecret; secret.IsEmpty() {
			secret = s.HookSecret()
		}
	}
	check := signedByGitHub
	if d.provider == "gitlab" {
		check = tokenOfGitLab
	}
	if err := check(r.Header, d.body, secret); err != nil {
		return err
	}
	if secret.IsEmpty() {
		return errUnsigned
	}
	return nil
}

func (s *server) acceptProcedure(w http.ResponseWriter, r *http.Request, d delivery, name, branch string) {
	ref, err := parseRef(d.body)
	if err != nil {
		writeError(w, badRequest(err.Error(), ""))
		return
	}
	follows := branch
	if pushed, ok := strings.CutPrefix(ref, "refs/heads/"); ok && branch == anyBranch {
		follows = pushed
	}
	reason, concerned := concerns("procedure", follows, ref, cmp.Or(r.Header.Get("X-Github-Event"), r.Header.Get("X-Gitlab-Event")))
	sum := sha256.Sum256(append([]byte(d.provider+"\x00"+"procedure\x00"+name+"\x00"+branch+"\x00"), d.body...))
	ctx := context.WithoutCancel(r.Context()) // a host that hangs up early must not lose the push
	record, replay, err := s.Store.WebhookSeen(ctx, hex.EncodeToString(sum[:]), func(replay bool) api.Event {
		return api.Event{Kind: "webhook", Actor: d.provider, Text: strings.Replace(hookText(d, reason, concerned, replay), "sync woken for", "run asked of", 1)}
	})
	if err != nil {
		s.unavailableHook(w, r, err)
		return
	}
	answer := api.Accepted{Accepted: concerned, Procedure: name, Action: "none", Reason: reason}
	switch {
	case !concerned:
	case replay:
		answer.Reason = "duplicate delivery: " + reason + "; it ran the procedure already"
	default:
		inputs, err := s.webhookInputs(ctx, name, strings.TrimPrefix(ref, "refs/heads/"), d.body)
		if err != nil {
			s.unavailableHook(w, r, err)
			return
		}
		_, coalesced, err := s.Procedures.Start(ctx, procedure.Request{
			Procedure: name, Inputs: inputs, Trigger: reconciler.TriggerWebhook, Actor: "webhook", Cause: record, Coalesce: true,
		})
		if err != nil {
			writeError(w, s.failure(ctx, procedureError(err)))
			return
		}
		answer.Action, answer.Reason = "run", fmt.Sprintf("%s; the procedure will be run", reason)
		if coalesced {
			answer.Reason += ", together with an earlier request that still waits"
		}
	}
	writeJSON(w, http.StatusAccepted, answer)
}

// webhookInputs are what a delivery tells a procedure: only what it asks for by declaring it.
func (s *server) webhookInputs(ctx context.Context, name, branch string, body []byte) (map[string]string, error) {
	declared, _, err := s.Procedures.Declared(ctx)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(declared, func(p fleet.Procedure) bool { return p.Name == name })
	if at < 0 {
		return nil, nil //nolint:nilnil // it is gone since; the run says so
	}
	inputs := map[string]string{}
	for _, input := range declared[at].Inputs {
		switch input.Name {
		case fleet.InputWebhookBranch:
			inputs[input.Name] = branch
		case fleet.InputWebhookBody:
			inputs[input.Name] = string(body)
		}
	}
	return inputs, nil
}
