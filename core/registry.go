package core

import (
	"context"

	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

var _ hub.Registry = (*registry)(nil)

// registry is the store as the hub needs it.
type registry struct {
	store *store.Store
	// joined is called when a server was onboarded.
	joined func(ctx context.Context, server string)
}

// ServerByKey implements hub.Registry.
func (r *registry) ServerByKey(ctx context.Context, key noise.PublicKey) (string, error) {
	return r.store.ServerByKey(ctx, key.String())
}

// NextEpoch implements hub.Registry.
func (r *registry) NextEpoch(ctx context.Context, server string) (uint64, error) {
	return r.store.NextEpoch(ctx, server)
}

// Onboard implements hub.Registry.
func (r *registry) Onboard(ctx context.Context, req hub.OnboardRequest) (string, error) {
	err := r.store.Onboard(ctx, store.Joining{
		Token: req.Token.ID(), Hash: req.Token.SecretHash(), Server: req.Server, PublicKey: req.Key.String(),
	})
	if err != nil {
		return "", err
	}
	r.joined(ctx, req.Server)
	return req.Server, nil
}

// Servers implements hub.Registry: pending servers are none of the hub's.
func (r *registry) Servers(ctx context.Context) ([]string, error) {
	servers, err := r.store.Servers(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(servers))
	for _, server := range servers {
		if !server.Pending {
			names = append(names, server.Name)
		}
	}
	return names, nil
}

var _ hub.LoginSource = logins{}

// logins are core's accounts at image registries, as the hub needs them.
type logins struct{ store *store.Store }

// Logins implements hub.LoginSource.
func (l logins) Logins(ctx context.Context, account fleet.RegistryAccount) ([]wire.Login, error) {
	token, ok, err := l.store.RegistryLogin(ctx, account)
	if err != nil || !ok {
		return nil, err
	}
	return []wire.Login{{Registry: account.Registry, Username: account.Account, Password: token.Reveal()}}, nil
}
