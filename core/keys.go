package core

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/dial"
	"github.com/varanhq/varan/core/web"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

var _ web.Keys = (*keyService)(nil)

// keyService is what handlers and procedures see of keys.
type keyService struct {
	agents *agentKeys
	core   *coreKey
}

// Rotate implements web.Keys.
func (k *keyService) Rotate(ctx context.Context, req api.KeyRotation, actor string, each func(api.KeyResult)) (api.KeyReport, error) {
	if each == nil {
		each = func(api.KeyResult) {}
	}
	switch {
	case req.Core && req.Server == "" && !req.All && !req.Emergency:
		return k.core.change(ctx, actor, req.Force, each)
	case req.All && req.Server == "" && !req.Core && !req.Emergency && !req.Force:
		return k.agents.all(ctx, actor, each)
	case req.Server != "" && !req.All && !req.Core && !req.Force:
		report, err := k.agents.named(ctx, req.Server, actor, req.Emergency)
		for _, result := range report.Results {
			each(result)
		}
		return report, err
	}
	return api.KeyReport{}, &api.Error{
		Status: http.StatusBadRequest, Code: api.CodeBadRequest,
		Message: "a change of keys is of one server, of all servers, or of core",
		Hint:    "force goes with core, emergency with one server",
	}
}

// Core implements web.Keys.
func (k *keyService) Core() (publicKey string, fingerprint wire.Fingerprint) {
	key := k.core.have().Current.Public()
	return key.String(), key.Fingerprint()
}

// List implements web.Keys.
func (k *keyService) List(ctx context.Context) (api.FleetKeys, error) {
	out := api.FleetKeys{Servers: []api.AgentKey{}}
	keys := k.core.have()
	newest := keys.Current
	if !keys.Next.IsZero() {
		newest = keys.Next
	}
	left, err := k.agents.store.WithoutCoreKey(ctx, newest.Public().Fingerprint().String())
	if err != nil {
		return out, err
	}
	for _, key := range []struct {
		state string
		key   noise.PrivateKey
	}{{"current", keys.Current}, {"next", keys.Next}, {"previous", keys.Prev}} {
		if key.key.IsZero() {
			continue
		}
		public := key.key.Public()
		shown := api.CoreKey{State: key.state, PublicKey: public.String(), Fingerprint: public.Fingerprint().String()}
		if other, _ := otherKey(keys); !other.IsZero() && public == newest.Public() {
			shown.Without = left
		}
		out.Core = append(out.Core, shown)
	}
	list, err := k.agents.store.ServerKeys(ctx)
	if err != nil {
		return out, err
	}
	for _, key := range list {
		public, err := noise.ParsePublicKey(key.PublicKey)
		if err != nil {
			return out, fmt.Errorf("key of server %s: %w", key.Server, err)
		}
		out.Servers = append(out.Servers, api.AgentKey{
			Server: key.Server, State: string(key.State), PublicKey: key.PublicKey, Fingerprint: public.Fingerprint().String(),
			Since: key.Since, Shown: k.agents.hub.KeyOf(key.Server) == public,
		})
	}
	return out, nil
}

// task is a change of keys as procedures ask for it.
func (k *keyService) task(request func(x *fleet.Execution) api.KeyRotation) func(context.Context, *fleet.Execution, func(string)) (string, error) {
	return func(ctx context.Context, x *fleet.Execution, news func(string)) (string, error) {
		report, err := k.Rotate(ctx, request(x), "execution "+x.Type, func(r api.KeyResult) {
			news(fmt.Sprintf("%s %s: %s", r.Server, r.Status, r.Text))
		})
		text := summary(&report)
		if n := report.Count(api.KeyFailed); err == nil && n > 0 {
			err = fmt.Errorf("the keys of %d servers were not changed: %s", n, reasons(&report))
		}
		return text, err
	}
}

// summary is a report in a sentence.
func summary(r *api.KeyReport) string {
	text := fmt.Sprintf("%d rotated, %d skipped, %d failed", r.Count(api.KeyRotated), r.Count(api.KeySkipped), r.Count(api.KeyFailed))
	if skipped := r.Names(api.KeySkipped); len(skipped) > 0 {
		text += "; skipped: " + strings.Join(skipped, ", ")
	}
	if r.Fingerprint != "" {
		text += "; core's new key has the fingerprint " + r.Fingerprint
	}
	return text
}

func reasons(r *api.KeyReport) string {
	var parts []string
	for i := range r.Results {
		if r.Results[i].Status == api.KeyFailed {
			parts = append(parts, r.Results[i].Server+": "+r.Results[i].Text)
		}
	}
	return strings.Join(parts, "; ")
}

// dialTargets are the servers that are declared with an address, and take part.
func (c *core) dialTargets() map[string]dial.Target {
	targets := map[string]dial.Target{}
	for name, s := range c.declaredServers() {
		if s.Enabled && s.Address != "" {
			targets[name] = dial.Target{Address: s.Address, VerifyTLS: s.VerifyTLS}
		}
	}
	return targets
}

// declaredServers are the servers of all syncs by name, without those that only joined. Of two with
// one name the last counts. Nobody may change them.
func (c *core) declaredServers() map[string]*fleet.Server {
	all := c.desired()
	servers := map[string]*fleet.Server{}
	for i := range all {
		for k := range all[i].Servers {
			if s := &all[i].Servers[k]; !s.Origin.IsZero() {
				servers[s.Name] = s
			}
		}
	}
	return servers
}
