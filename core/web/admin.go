package web

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/network"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/wire"
)

// Limits of onboarding keys (rules O03 and O06).
const (
	defaultTokenTTL = time.Hour
	maxTokenTTL     = 7 * 24 * time.Hour
	maxRekeyTTL     = 15 * time.Minute
	maxTokenUses    = 100
)

func (s *server) registerAdmin(a huma.API) {
	handle(s, a, route(http.MethodGet, "/keys", "listKeys", "API keys, oldest first"),
		func(ctx context.Context, _ *none) ([]api.Key, error) { return s.Store.Keys(ctx) })
	handle(s, a, route(http.MethodPost, "/keys", "createKey", "Make an API key"), s.createKey)
	act(s, a, route(http.MethodDelete, "/keys/{name}", "deleteKey", "Revoke an API key by its id"),
		func(ctx context.Context, in *named) error {
			if err := s.Store.DeleteKey(ctx, in.Name); err != nil {
				return err
			}
			s.Guard.Revoked(ctx, in.Name)
			s.record(ctx, api.Event{Kind: "key", Text: "API key " + in.Name + " revoked"})
			return nil
		})

	handle(s, a, route(http.MethodGet, "/onboarding-keys", "listOnboardingKeys", "Onboarding keys, newest first"),
		func(ctx context.Context, _ *none) ([]api.OnboardingKey, error) { return s.Store.OnboardingKeys(ctx) })
	handle(s, a, route(http.MethodPost, "/onboarding-keys", "createOnboardingKey", "Make a key that lets agents join"),
		s.createOnboardingKey)
	act(s, a, route(http.MethodDelete, "/onboarding-keys/{name}", "revokeOnboardingKey", "End an onboarding key by its id"),
		func(ctx context.Context, in *named) error {
			if err := s.Store.RevokeOnboardingKey(ctx, in.Name); err != nil {
				return err
			}
			s.record(ctx, api.Event{Kind: "onboarding", Text: "onboarding key " + in.Name + " revoked"})
			return nil
		})
}

func (s *server) createKey(ctx context.Context, in *body[api.KeySpec]) (api.KeyCreated, error) {
	if !validName(in.Body.Name) {
		return api.KeyCreated{}, badName("key", in.Body.Name)
	}
	id, secret, hash := auth.NewKey()
	key, err := s.Store.AddKey(ctx, id, in.Body.Name, hash)
	if err != nil {
		return api.KeyCreated{}, err
	}
	s.record(ctx, api.Event{Kind: "key", Text: fmt.Sprintf("API key %s (%s) created", id, in.Body.Name)})
	return api.KeyCreated{Key: key, Secret: api.WriteOnly(secret.Reveal())}, nil
}

func (s *server) createOnboardingKey(ctx context.Context, in *body[api.OnboardingSpec]) (api.OnboardingCreated, error) {
	key, err := onboardingKey(in.Body, s.Store.Clock().Now)
	if err != nil {
		return api.OnboardingCreated{}, err
	}
	if err := s.checkOnboarding(ctx, &key); err != nil {
		return api.OnboardingCreated{}, err
	}
	key.CreatedBy = auth.ActorOf(ctx).ID
	_, fingerprint := s.Keys.Core()
	token := wire.NewOnboardingToken(fingerprint)
	whole := token.Reveal()
	secret := strings.Split(whole, "_")[2] // the part after it is the same in every token
	key.ID, key.Last4 = token.ID(), secret[len(secret)-4:]
	if err := s.Store.AddOnboardingKey(ctx, key, token.SecretHash()); err != nil {
		return api.OnboardingCreated{}, err
	}
	s.record(ctx, api.Event{Kind: "onboarding", Text: fmt.Sprintf(
		"onboarding key %s created: %d uses until %s, servers %q, tier %s",
		key.ID, key.MaxUses, key.Expires.Format(time.RFC3339), key.ServerGlob, key.Tier)})
	return api.OnboardingCreated{Key: key, Token: api.WriteOnly(whole)}, nil
}

// checkOnboarding holds a key against the servers there are, and reads its template.
func (s *server) checkOnboarding(ctx context.Context, key *api.OnboardingKey) error {
	if key.Rekey != "" {
		joined, err := s.Store.Servers(ctx)
		if err != nil {
			return err
		}
		names := make([]string, len(joined))
		for i := range joined {
			names[i] = joined[i].Name
		}
		if !slices.Contains(names, key.Rekey) {
			return notFound(fmt.Sprintf("no server %q ever joined", key.Rekey), didYouMean(key.Rekey, names))
		}
	}
	if key.CopyServer == "" {
		return nil
	}
	template, tier, names, err := s.Sources.ServerTemplate(ctx, key.CopyServer)
	switch {
	case err != nil:
		return err
	case template == "":
		return notFound(fmt.Sprintf("there is no server %q to copy", key.CopyServer), didYouMean(key.CopyServer, names))
	case tier == fleet.TierUntrusted:
		key.Tier = fleet.TierUntrusted // the template is no way around it
	}
	key.Template = template
	return nil
}

// onboardingKey applies the defaults and limits. They are fixed from then on.
func onboardingKey(spec api.OnboardingSpec, now time.Time) (api.OnboardingKey, error) {
	ttl := time.Duration(spec.TTLSeconds) * time.Second
	longest, fallback := maxTokenTTL, defaultTokenTTL
	if spec.Rekey != "" {
		longest, fallback = maxRekeyTTL, maxRekeyTTL
	}
	key := api.OnboardingKey{
		Name: spec.Name, ServerGlob: cmp.Or(spec.ServerGlob, spec.Rekey, "*"), Rekey: spec.Rekey, Tags: spec.Tags, Tier: spec.Tier,
		CopyServer: spec.CopyServer, Approval: spec.Approval || spec.MaxUses > 1,
		MaxUses: cmp.Or(spec.MaxUses, 1), Created: now, Expires: now.Add(cmp.Or(ttl, fallback)),
	}
	if key.Tier == "" {
		key.Tier = fleet.TierTrusted
		if key.MaxUses > 1 || slices.ContainsFunc(key.Tags, untrustedTag) {
			key.Tier = fleet.TierUntrusted
		}
	}
	_, badGlob := path.Match(key.ServerGlob, "")
	var err error
	if key.CIDRs, err = networks(spec.CIDRs); err != nil {
		return key, err
	}
	switch {
	case ttl < 0 || ttl > longest:
		return key, badRequest(fmt.Sprintf("an onboarding key cannot be valid for %s", ttl), fmt.Sprintf("at most %s", longest))
	case key.MaxUses < 1 || key.MaxUses > maxTokenUses:
		return key, badRequest(fmt.Sprintf("an onboarding key cannot have %d uses", key.MaxUses), "1 to 100")
	case spec.Rekey != "" && key.MaxUses != 1:
		return key, badRequest("a key that replaces a server's key has a single use", "leave max_uses out")
	case spec.Rekey != "" && (spec.CopyServer != "" || len(spec.Tags) > 0 || spec.Approval || spec.Tier != ""):
		return key, badRequest("a key that replaces a server's key changes nothing else of the server", "leave tags, tier, template and approval out")
	case spec.Tier == fleet.TierTrusted && slices.ContainsFunc(spec.Tags, untrustedTag):
		return key, badRequest("the tags say untrusted and the tier says trusted", "make the two agree")
	case badGlob != nil:
		return key, badRequest(fmt.Sprintf("%q is not a pattern", key.ServerGlob), `use * and ?, like "edge-*"`)
	case key.Tier != fleet.TierTrusted && key.Tier != fleet.TierUntrusted:
		return key, badRequest(fmt.Sprintf("there is no tier %q", key.Tier), "trusted or untrusted")
	case spec.Name != "" && !validName(spec.Name):
		return key, badName("onboarding key", spec.Name)
	}
	return key, nil
}

// untrustedTag reports the tags by which a server is untrusted.
func untrustedTag(tag string) bool { return tag == "untrusted" || tag == "tier:untrusted" }

// networks checks CIDRs and writes each in its one form. A single address is a network too.
func networks(cidrs []string) ([]string, error) {
	var out []string
	for _, text := range cidrs {
		prefix, err := network.Parse(text)
		if err != nil {
			return nil, badRequest(err.Error(), "")
		}
		out = append(out, prefix.String())
	}
	return out, nil
}

// wakeAll wakes every sync: any may use the variable that was set, or name the server.
func (s *server) wakeAll(ctx context.Context) {
	syncs, err := s.Store.Syncs(ctx)
	if err != nil {
		_ = s.failure(ctx, err) // the next poll sees the change
		return
	}
	for _, sync := range syncs {
		s.Reconciler.Poke(sync.Name, reconciler.TriggerManual, auth.ActorOf(ctx).Name)
	}
}
