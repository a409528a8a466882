package web

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/procedure"
)

const (
	maxHookBody   = 1 << 20
	maxHookDepth  = 64
	minHookSecret = 8
)

// hookLimits bound what webhooks cost (rule L04). Only deliveries with a valid signature
// count against their sync, so that nobody else can use its share up.
type hookLimits struct{ refused, accepted *auth.Limiter }

// HookRates are how many deliveries a minute are taken.
type HookRates struct {
	// PerHook of one webhook and Total of all are accepted.
	PerHook, Total int
	// Refused of one address are answered with the reason, and ten times as many of all.
	Refused int
}

func newHookLimits(rates func() HookRates) *hookLimits {
	return &hookLimits{
		refused: auth.NewLimiter(func() (int, int) { n := rates().Refused; return n, 10 * n }, time.Minute),
		accepted: auth.NewLimiter(func() (int, int) {
			r := rates()
			return r.PerHook, r.Total
		}, time.Minute),
	}
}

// delivery is a webhook whose form is right.
type delivery struct {
	provider, kind, name, action string
	body                         []byte
}

// target is what a delivery is for: a sync, or one stack or repo that it declares.
type target struct {
	sync   api.Sync
	branch string
	// only is empty for the whole sync.
	only string
	// force deploys the stack although nothing changed.
	force bool
}

// webhook answers a Git host. Whatever is wrong with who sent it gives one and the same
// answer; the payload is looked at only when the sender is known, and chooses nothing.
func (s *server) webhook(w http.ResponseWriter, r *http.Request) {
	d := delivery{
		provider: r.PathValue("provider"), kind: r.PathValue("kind"), name: s.hookName(r.PathValue("name")), action: r.PathValue("action"),
	}
	if !knownHook(d) {
		writeError(w, notFound("there is no such webhook",
			"POST to /listener/{github|gitlab}/sync/{name}/{refresh|sync}, .../stack/{name}/{refresh|deploy} or .../repo/{name}/{clone|pull}"))
		return
	}
	var ok bool
	if d.body, ok = readHook(w, r); !ok {
		return
	}
	to, err := s.authenticate(r, d)
	if err != nil {
		s.refuseHook(w, r, d, err)
		return
	}
	if !s.hooks.accepted.Allow(d.provider+"/"+d.kind+"/"+d.name, s.Now()) {
		s.overHook(w, d, to)
		return
	}
	s.accept(w, r, d, to)
}

func knownHook(d delivery) bool {
	actions := map[string][]string{
		"sync": {"refresh", "sync"}, "stack": {"refresh", "deploy"}, "repo": {"clone", "pull"},
	}
	return (d.provider == "github" || d.provider == "gitlab") && slices.Contains(actions[d.kind], d.action)
}

// readHook reads a delivery. ok is false when it has been refused.
func readHook(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	problem := hookForm(r)
	if problem == nil {
		body, problem = hookBody(w, r)
	}
	if problem == nil {
		return body, true
	}
	if problem.Status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	writeError(w, problem)
	return nil, false
}

// hookForm refuses what no Git host sends, before anything is read.
func hookForm(r *http.Request) *api.Error {
	if r.Method != http.MethodPost {
		return &api.Error{Status: http.StatusMethodNotAllowed, Code: api.CodeBadRequest, Message: "webhooks are POSTed"}
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" || r.Header.Get("Content-Encoding") != "" {
		return &api.Error{
			Status: http.StatusUnsupportedMediaType, Code: api.CodeBadRequest,
			Message: "the body is not plain application/json", Hint: "choose the content type application/json at the Git host",
		}
	}
	return nil
}

// hookBody reads the whole body: the signature is over all of it.
func hookBody(w http.ResponseWriter, r *http.Request) ([]byte, *api.Error) {
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHookBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &api.Error{
			Status: http.StatusRequestEntityTooLarge, Code: api.CodeTooLarge,
			Message: "the body is larger than 1 MiB", Hint: "polling will find the push",
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &api.Error{Status: http.StatusRequestTimeout, Code: api.CodeBadRequest, Message: "the body came too slowly"}
	case err != nil:
		return nil, badRequest("the body broke off", "")
	}
	return content, nil
}

// errUnsigned is every failure to prove knowledge of a sync's secret.
var errUnsigned = errors.New("not signed with the sync's secret")

// authenticate checks the sender. A resource that does not exist takes the same path as one
// that does, with a secret that nothing can have signed.
func (s *server) authenticate(r *http.Request, d delivery) (target, error) {
	to, secret, err := s.hookTarget(r.Context(), d)
	missing := errors.Is(err, store.ErrNotFound)
	if err != nil && !missing {
		return target{}, err
	}
	check := signedByGitHub
	if d.provider == "gitlab" {
		check = tokenOfGitLab
	}
	if err := check(r.Header, d.body, secret); err != nil {
		return target{}, err
	}
	if missing || secret.IsEmpty() {
		return target{}, errUnsigned
	}
	return to, nil
}

// hookTarget finds what a delivery is for, and the secret that it must prove to know.
func (s *server) hookTarget(ctx context.Context, d delivery) (to target, secret fleet.Secret, err error) {
	name, hook := d.name, fleet.Hook{}
	if d.kind != "sync" {
		if name, hook, err = s.Store.Hook(ctx, d.kind, d.name); err != nil {
			return to, secret, err
		}
		// What was read last is newer than what was applied.
		desired, _ := s.Sources.Desired(name)
		for _, h := range desired.Hooks {
			if h.Kind == d.kind && h.Name == d.name {
				hook = h
			}
		}
		to.only, secret = d.kind+"/"+d.name, hook.Secret
		to.force = hook.Force && d.action == "deploy"
	} else if secret, err = s.Store.WebhookSecret(ctx, name); err != nil {
		return to, secret, err
	}
	if to.sync, err = s.Store.Sync(ctx, name); err != nil {
		return to, fleet.Secret{}, err
	}
	to.branch = cmp.Or(hook.Branch, to.sync.Branch)
	declared := d.kind != "sync" || to.sync.DeclaredBy != ""
	switch {
	case d.kind == "sync" && to.sync.Declared.NoWebhook:
		secret = fleet.Secret{}
	case secret.IsEmpty() && declared:
		secret = s.HookSecret()
	}
	return to, secret, nil
}

// signedByGitHub checks the one signature that GitHub, Gitea and Forgejo send.
func signedByGitHub(header http.Header, content []byte, secret fleet.Secret) error {
	signature, err := parseSignature(header.Values("X-Hub-Signature-256"))
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, []byte(secret.Reveal()))
	mac.Write(content)
	if !hmac.Equal(mac.Sum(nil), signature) {
		return errUnsigned
	}
	return nil
}

// parseSignature accepts exactly one header, "sha256=" and 64 lower-case hex digits.
func parseSignature(values []string) ([]byte, error) {
	if len(values) != 1 {
		return nil, fmt.Errorf("%w: %d signatures", errUnsigned, len(values))
	}
	digits, ok := strings.CutPrefix(values[0], "sha256=")
	signature, err := hex.DecodeString(digits)
	if !ok || err != nil || len(signature) != sha256.Size || digits != strings.ToLower(digits) {
		return nil, fmt.Errorf("%w: not sha256= and 64 lower-case hex digits", errUnsigned)
	}
	return signature, nil
}

// tokenOfGitLab compares digests, so that the time taken says nothing of the length either.
func tokenOfGitLab(header http.Header, _ []byte, secret fleet.Secret) error {
	values := header.Values("X-Gitlab-Token")
	if len(values) != 1 {
		return fmt.Errorf("%w: %d tokens", errUnsigned, len(values))
	}
	have, want := sha256.Sum256([]byte(values[0])), sha256.Sum256([]byte(secret.Reveal()))
	if subtle.ConstantTimeCompare(have[:], want[:]) != 1 {
		return errUnsigned
	}
	return nil
}

// refuseHook gives every unknown sender the same answer and writes nothing to the store.
func (s *server) refuseHook(w http.ResponseWriter, r *http.Request, d delivery, err error) {
	if !errors.Is(err, errUnsigned) {
		s.unavailableHook(w, r, err)
		return
	}
	peer := auth.Peer(r)
	if !s.hooks.refused.Allow(auth.Host(r), s.Now()) {
		w.Header().Set("Retry-After", "60")
		writeError(w, &api.Error{
			Status: http.StatusTooManyRequests, Code: api.CodeRateLimited, Message: "too many failed attempts",
			Hint: "try again in a minute",
		})
		return
	}
	if KomodoID(d.name) {
		// Whether or not there is a resource of that name.
		writeError(w, notFound("no resource is known by the id "+d.name+": it is of Komodo's database",
			"put the name in its place, "+hookAddress(d)+", or map it: [webhook] ids = ['"+d.name+"=NAME']"))
		return
	}
	s.Logger.LogAttrs(r.Context(), slog.LevelWarn, "webhook refused", slog.String("of", d.kind+"/"+d.name),
		slog.String("provider", d.provider), slog.String("peer", peer), slog.String("err", err.Error()))
	writeError(w, &api.Error{
		Status: http.StatusUnauthorized, Code: api.CodeUnauthorized, Message: "the " + d.kind + " or its webhook secret is wrong",
		Hint: secretHint(d.kind),
	})
}

// unavailableHook asks the Git host to deliver again: nothing was recorded.
func (s *server) unavailableHook(w http.ResponseWriter, r *http.Request, err error) {
	s.Logger.LogAttrs(r.Context(), slog.LevelError, "webhook not recorded", slog.String("err", err.Error()))
	w.Header().Set("Retry-After", "5")
	writeError(w, unavailable("core cannot record the delivery now", "deliver it again"))
}

// accept records the delivery, wakes the sync if it concerns it, and says so.
func (s *server) accept(w http.ResponseWriter, r *http.Request, d delivery, to target) {
	ref, err := parseRef(d.body)
	if err != nil {
		writeError(w, badRequest(err.Error(), ""))
		return
	}
	event := cmp.Or(r.Header.Get("X-Github-Event"), r.Header.Get("X-Gitlab-Event"))
	reason, concerned := concerns(d.kind, to.branch, ref, event)
	sum := sha256.Sum256(append([]byte(d.provider+"\x00"+hookPath(d)+"\x00"+d.action+"\x00"), d.body...))
	ctx := context.WithoutCancel(r.Context()) // a host that hangs up early must not lose the push
	record, replay, err := s.Store.WebhookSeen(ctx, hex.EncodeToString(sum[:]), func(replay bool) api.Event {
		return api.Event{Kind: "webhook", Sync: to.sync.Name, Actor: d.provider, Text: hookText(d, reason, concerned, replay)}
	})
	if err != nil {
		s.unavailableHook(w, r, err)
		return
	}
	answer := api.Accepted{Accepted: concerned, Sync: to.sync.Name, Action: "none", Reason: reason}
	switch {
	case concerned && to.force && !replay:
		if err := s.deployForced(ctx, d.name, record); err != nil {
			writeError(w, s.failure(ctx, procedureError(err)))
			return
		}
		answer.Action, answer.Reason = "deploy", reason+"; the stack will be deployed, whether it changed or not"
	case concerned:
		coalesced := s.wake(d, to, replay)
		answer.Action, answer.Reason = promise(to, d, reason, replay, coalesced)
	}
	writeJSON(w, http.StatusAccepted, answer)
}

// overHook answers a delivery above the rates. It is not recorded, so whether it came before is
// not known and it can ask for no more than a look; but the push is real, and any number of them
// make one look.
func (s *server) overHook(w http.ResponseWriter, d delivery, to target) {
	hint := "it is not recorded"
	if ref, err := parseRef(d.body); err == nil && ref == "refs/heads/"+to.branch {
		s.Reconciler.Poke(to.sync.Name, reconciler.TriggerWebhook, "webhook")
		hint += "; the sync looks at its repository all the same"
	}
	w.Header().Set("Retry-After", "60")
	writeError(w, &api.Error{
		Status: http.StatusTooManyRequests, Code: api.CodeRateLimited,
		Message: fmt.Sprintf("more than %d deliveries in a minute", s.HookRates().PerHook), Hint: hint,
	})
}

// deployForced deploys a stack as somebody would who asks for it by name. cause is the number of
// the record that led to it.
func (s *server) deployForced(ctx context.Context, stack string, cause int64) error {
	x := fleet.Execution{Type: "DeployStack", Enabled: true, Params: []fleet.Param{{Name: "stack", Text: stack}}}
	_, _, err := s.Procedures.Start(ctx, procedure.Request{Execution: &x, Trigger: reconciler.TriggerWebhook, Actor: "webhook", Cause: cause})
	return err
}

// wake has the sync looked at. A replayed request must not set going again what was applied
// and then undone.
func (s *server) wake(d delivery, to target, replay bool) (coalesced bool) {
	const trigger = reconciler.TriggerWebhook
	switch {
	case !acts(d) || replay:
		return s.Reconciler.Poke(to.sync.Name, trigger, "webhook")
	case to.only != "":
		return s.Reconciler.PokeOnly(to.sync.Name, trigger, "webhook", to.only)
	}
	return s.Reconciler.PokeApply(to.sync.Name, trigger, "webhook")
}

// acts reports whether a delivery asks for more than a look.
func acts(d delivery) bool { return d.action != "refresh" }

// hookPath tells deliveries for different things apart.
func hookPath(d delivery) string {
	if d.kind == "sync" {
		return d.name
	}
	return d.kind + "/" + d.name
}

func hookText(d delivery, reason string, concerned, replay bool) string {
	switch {
	case !concerned:
		return "ignored: " + reason
	case replay:
		return "duplicate: " + reason
	}
	if d.kind != "sync" {
		return "sync woken for " + d.kind + " " + d.name + ": " + reason
	}
	return "sync woken: " + reason
}

// concerns says in words whether a delivery is a push to the branch of the sync, stack or
// repo.
func concerns(kind, follows, ref, event string) (reason string, concerned bool) {
	branch, isBranch := strings.CutPrefix(ref, "refs/heads/")
	switch {
	case strings.EqualFold(event, "ping"):
		return "ping: the webhook works", false
	case event != "" && event != "push" && event != "Push Hook":
		return fmt.Sprintf("a %s event is not a push to a branch", shown(event)), false
	case ref == "":
		return "the payload names no ref, so it is no push", false
	case strings.HasPrefix(ref, "refs/tags/"):
		return fmt.Sprintf("%s is a tag; the %s follows branch %s", shown(ref), kind, follows), false
	case !isBranch:
		return fmt.Sprintf("%s is not a branch; the %s follows branch %s", shown(ref), kind, follows), false
	case branch != follows:
		return fmt.Sprintf("branch %s was pushed; the %s follows branch %s", shown(branch), kind, follows), false
	}
	return "branch " + follows + " was pushed", true
}

// shown is text from a payload as an answer may repeat it.
func shown(s string) string {
	const longest = 100
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	return fmt.Sprintf("%q", s)
}

// promise says what follows from waking the sync. As in Komodo, the path "sync" applies what
// it finds and "refresh" only looks; "deploy" and "pull" apply what they are for. A sync with
// auto_apply applies all of it either way.
func promise(to target, d delivery, reason string, replay, coalesced bool) (does, why string) {
	does, why = "refresh", reason
	what := "the " + d.kind
	if to.sync.AutoApply {
		what = "the sync"
	}
	switch {
	case to.sync.AutoApply, acts(d) && !replay:
		does = "sync"
		why += "; " + what + " will be planned and applied"
	case acts(d):
		why += "; " + what + " will only be planned, because this delivery came before"
	default:
		why += "; " + what + " will be planned"
	}
	switch {
	case replay:
		why = "duplicate delivery: " + why
	case coalesced:
		why += ", together with an earlier request that still waits"
	}
	return does, why
}

// parseRef reads the one field that is looked at: the top level's "ref". It is empty when
// there is none. Everything else is only checked for being JSON within bounds.
func parseRef(content []byte) (string, error) {
	if !utf8.Valid(content) {
		return "", errors.New("the payload is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.UseNumber()
	p := refParser{dec: dec, keys: map[string]bool{}}
	for done := false; !done; {
		token, err := dec.Token()
		if err != nil {
			return "", errors.New("the payload is not JSON")
		}
		if done, err = p.next(token); err != nil {
			return "", err
		}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return "", errors.New("the payload has something after its end")
	}
	return p.ref, nil
}

// refParser walks the tokens without building anything from them.
type refParser struct {
	dec   *json.Decoder
	depth int
	// keys are those of the top level; key is the one whose value comes next.
	keys map[string]bool
	key  string
	ref  string
}

// next takes a token and reports whether it ends the document.
func (p *refParser) next(token json.Token) (done bool, err error) {
	delim, isDelim := token.(json.Delim)
	switch {
	case isDelim && (delim == '{' || delim == '['):
		if p.depth == 0 && delim != '{' {
			return false, errors.New("the payload is not an object")
		}
		p.depth++
		if p.depth > maxHookDepth {
			return false, fmt.Errorf("the payload is nested deeper than %d", maxHookDepth)
		}
		if p.depth == 2 {
			p.key = ""
		}
	case isDelim:
		p.depth--
		return p.depth == 0, nil
	case p.depth == 0:
		return false, errors.New("the payload is not an object")
	case p.depth == 1:
		return false, p.member(token)
	}
	return false, nil
}

// member takes a key or a plain value of the top level.
func (p *refParser) member(token json.Token) error {
	text, _ := token.(string)
	if p.key != "" {
		if p.key == "k:ref" {
			p.ref = text
		}
		p.key = ""
		return nil
	}
	if p.keys[text] {
		return fmt.Errorf("the payload has the key %s twice", shown(text))
	}
	p.keys[text] = true
	p.key = "k:" + text // an empty key is a key too
	return nil
}

// secretHint says where the secret of a webhook is to be found.
func secretHint(kind string) string {
	if kind == "sync" {
		return "varan sync add showed the secret once; core's log has the refusal"
	}
	return "it is the webhook_secret that the " + kind + " declares, or core's own; core's log has the refusal"
}
