package core

import (
	"context"
	"errors"
	"fmt"

	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

var (
	_ hub.Registry  = (*registry)(nil)
	_ hub.Rotations = (*registry)(nil)
)

// registry is the store as the hub needs it.
type registry struct {
	store *store.Store
	// joined is called when a server may connect that core did not know by its key.
	joined func(server string)
	// refuse says why a server must not connect although the store lets it; optional.
	refuse func(server string) error
	// confirmed is called when a server's agent has said that its key is in place; optional.
	confirmed func(server string)
}

// Open implements hub.Rotations.
func (r *registry) Open(ctx context.Context, server string) (string, error) {
	id, err := r.store.OpenRotation(ctx, server)
	if errors.Is(err, store.ErrNoRotation) {
		return "", nil
	}
	return id, err
}

// Propose implements hub.Rotations.
func (r *registry) Propose(ctx context.Context, server, id string, key noise.PublicKey) error {
	err := r.store.ProposeKey(ctx, server, id, key.String())
	if errors.Is(err, store.ErrNoRotation) {
		return fmt.Errorf("%w (%w)", hub.ErrNoRotation, err)
	}
	return err
}

// Confirm implements hub.Rotations.
func (r *registry) Confirm(ctx context.Context, server string) error {
	err := r.store.ConfirmKey(ctx, server)
	if err == nil && r.confirmed != nil {
		r.confirmed(server)
	}
	return err
}

// ServerByKey implements hub.Registry.
func (r *registry) ServerByKey(ctx context.Context, key noise.PublicKey) (hub.Admitted, error) {
	a, err := r.store.AdmitKey(ctx, key.String())
	if err != nil {
		return hub.Admitted{}, err
	}
	if err := r.refused(a.Server); err != nil {
		return hub.Admitted{}, err
	}
	admitted := hub.Admitted{Server: a.Server, Retired: a.Retired}
	if a.Emergency {
		if admitted.Refuse, err = noise.ParsePublicKey(a.Replaced); err != nil {
			return hub.Admitted{}, err
		}
	}
	return admitted, nil
}

func (r *registry) refused(server string) error {
	if r.refuse == nil {
		return nil
	}
	return r.refuse(server)
}

// NextEpoch implements hub.Registry.
func (r *registry) NextEpoch(ctx context.Context, server string) (uint64, error) {
	return r.store.NextEpoch(ctx, server)
}

// Onboard implements hub.Registry.
func (r *registry) Onboard(ctx context.Context, req hub.OnboardRequest) (string, error) {
	if err := r.refused(req.Server); err != nil {
		return "", err
	}
	err := r.store.Onboard(ctx, store.Joining{
		Token: req.Token.ID(), Hash: req.Token.SecretHash(), Server: req.Server, PublicKey: req.Key.String(),
		RemoteAddr: req.RemoteAddr,
	})
	if errors.Is(err, store.ErrPending) {
		return "", fmt.Errorf("%w: %s", hub.ErrPending, req.Server)
	}
	if err != nil {
		return "", err
	}
	r.joined(req.Server)
	return req.Server, nil
}

// Servers implements hub.Registry: pending servers are none of the hub's.
func (r *registry) Servers(ctx context.Context) ([]string, error) {
	return r.store.AdmittedServers(ctx)
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
