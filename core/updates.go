package core

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/varanhq/varan/core/alert"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/core/update"
	images "github.com/varanhq/varan/core/update/registry" //nolint:importas // core has a type registry
	"github.com/varanhq/varan/core/web"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/procedure"
)

var (
	_ update.Fleet = (*updates)(nil)
	_ web.Updates  = (*updates)(nil)
)

// updates is core as the search for newer images needs it, and that search as the handlers do.
type updates struct {
	core    *core
	service *update.Service
}

// newUpdates asks registries with the accounts that core has.
func (c *core) newUpdates() (u *updates, err error) {
	u = &updates{core: c}
	u.service, err = update.New(update.Config{
		Registry: images.New(images.Config{
			Credentials: c.registryAccount,
			Insecure:    func() []string { return c.settings().Updates.InsecureRegistries },
			Budget:      func() int { return c.settings().Updates.RequestsPerHour },
		}),
		Fleet: u, Store: c.store, Tell: c.alerts.Tell, Logger: c.cfg.Logger,
	})
	return u, err
}

// registryAccount is an account at a registry: the one that is named, or the first there is.
func (c *core) registryAccount(ctx context.Context, host, name string) (found images.Credentials, ok bool, err error) {
	if name == "" {
		accounts, err := c.store.Accounts(ctx)
		if err != nil {
			return found, false, err
		}
		i := slices.IndexFunc(accounts, func(a api.Account) bool {
			return a.Kind == api.AccountRegistry && a.Domain == host && a.HasToken
		})
		if i < 0 {
			return found, false, nil
		}
		name = accounts[i].Username
	}
	token, ok, err := c.store.RegistryLogin(ctx, fleet.RegistryAccount{Registry: host, Account: name})
	return images.Credentials{Username: name, Password: token}, ok, err
}

// Desired implements update.Fleet.
func (u *updates) Desired() []fleet.Desired { return u.core.desired() }

// Observed implements update.Fleet.
func (u *updates) Observed() fleet.Observed { return u.core.hub.Observed() }

// Refresh implements update.Fleet.
func (u *updates) Refresh(ctx context.Context, servers []string) {
	if len(servers) == 0 {
		return // the hub would ask all
	}
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	u.core.hub.Refresh(ctx, servers)
}

// Update implements update.Fleet.
func (u *updates) Update(ctx context.Context, req reconciler.UpdateRequest) (reconciler.Run, reconciler.OpResult, error) {
	return u.core.reconciler.Update(ctx, req)
}

// Updates implements web.Updates.
func (u *updates) Updates(ctx context.Context) ([]api.Update, error) {
	return u.core.store.Updates(ctx)
}

// Check implements web.Updates.
func (u *updates) Check(ctx context.Context, req api.UpdateRequest) (api.UpdateResult, error) {
	ask := update.Request{Mode: update.Check, Stack: req.Stack, Actor: auth.ActorOf(ctx).Name}
	if req.Apply {
		ask.Mode = update.Apply
	}
	result, err := u.service.Run(ctx, ask)
	if errors.Is(err, update.ErrUnknownStack) {
		return result, &api.Error{Status: http.StatusNotFound, Code: api.CodeNotFound, Message: err.Error(), Hint: u.near(req.Stack)}
	}
	return result, err
}

// near is a hint at what a stack was meant to be called.
func (u *updates) near(name string) string {
	all := u.core.desired()
	var names []string
	for i := range all {
		for k := range all[i].Stacks {
			names = append(names, all[i].Stacks[k].Name)
		}
	}
	return web.DidYouMean(name, names)
}

// globalAutoUpdate looks at everything that polls for updates and deploys what is newer where
// the stacks say so.
func (c *core) globalAutoUpdate(ctx context.Context, x *fleet.Execution, news func(string)) (string, error) {
	req := update.Request{Mode: update.Auto, Actor: "GlobalAutoUpdate", Parent: procedure.RunOf(ctx), News: news}
	if x.Param("skip_auto_update").Bool {
		req.Mode = update.Check
	}
	result, err := c.updates.service.Run(ctx, req)
	counts := map[api.UpdateState]int{}
	for i := range result.Updates {
		counts[result.Updates[i].State]++
	}
	text := fmt.Sprintf("%d services looked at, %d have a newer image", len(result.Updates),
		counts[api.UpdateAvailable]+counts[api.UpdateTooYoung]+counts[api.UpdateHeld])
	if n := counts[api.UpdateUnknown]; n > 0 {
		text += fmt.Sprintf(", of %d it is not known", n)
	}
	if len(result.Done) > 0 {
		text += "; " + strings.Join(result.Done, "; ")
	}
	if err == nil && result.Failed > 0 {
		err = fmt.Errorf("%d updates failed", result.Failed)
	}
	return text, err
}

// newer are the images that people are told of.
func (c *core) newer(ctx context.Context, all []fleet.Desired) ([]alert.Newer, error) {
	known, err := c.store.Updates(ctx)
	if err != nil || len(known) == 0 {
		return nil, err
	}
	told := map[string]*fleet.Stack{}
	for i := range all {
		for k := range all[i].Stacks {
			if s := &all[i].Stacks[k]; s.Updates.Watched() && !s.Quiet {
				told[s.Name+"@"+s.Server] = s
			}
		}
	}
	var out []alert.Newer
	for i := range known {
		u := &known[i]
		s := told[u.Stack+"@"+u.Server]
		if s == nil || s.Updates.Skips(u.Service) {
			continue
		}
		n := alert.Newer{Stack: u.Stack, Server: u.Server, Service: u.Service, Kind: u.Kind, Image: u.Image}
		if u.Newer() && !s.Updates.Auto {
			out = append(out, n)
		}
		if n.Tag = u.Tag; n.Tag != "" && u.State != api.UpdateSkipped && s.Updates.Tag(u.Service) == u.Policy {
			out = append(out, n)
		}
	}
	return out, nil
}
