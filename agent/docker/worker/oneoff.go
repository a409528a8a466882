package worker

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/compose/v5/pkg/api"

	"github.com/varanhq/varan/agent/docker/job"
)

// oneOff starts a container of a service, as `docker compose run` does, and what the service
// depends on. Nothing is attached to it: it has to outlive us and the agent.
func (w *work) oneOff(ctx context.Context, project *types.Project) error {
	run := w.req.OneOff
	if project == nil || run == nil {
		return errors.New("no model, or nothing to run")
	}
	selection := types.IncludeDependencies
	if run.NoDeps {
		selection = types.IgnoreDependencies
	}
	project, err := project.WithSelectedServices([]string{run.Service}, selection)
	if err != nil {
		return err
	}
	for name, s := range project.Services {
		s.PullPolicy = types.PullPolicyNever
		if name == run.Service {
			w.single(&s, run)
		}
		project.Services[name] = s
	}
	env := make([]string, 0, len(run.Env))
	for _, name := range slices.Sorted(maps.Keys(run.Env)) {
		env = append(env, name+"="+run.Env[name])
	}
	options := api.RunOptions{
		CreateOptions: api.CreateOptions{Build: buildOptions(), IgnoreOrphans: true, QuietPull: true},
		Project:       project, Service: run.Service, Command: run.Command, Environment: env,
		WorkingDir: run.WorkDir, User: run.User, NoDeps: run.NoDeps,
		Detach: true, AutoRemove: run.AutoRemove,
	}
	if len(run.Entrypoint) > 0 {
		options.Entrypoint = run.Entrypoint
	}
	_, err = w.compose.RunOneOffContainer(ctx, project, options)
	return err
}

// single makes a service's container one that is in nobody's way: without the labels by
// which those of a stack are found, and without ports unless they are asked for.
func (w *work) single(s *types.ServiceConfig, run *job.OneOff) {
	if !run.ServicePorts {
		s.Ports = nil
	}
	s.CustomLabels = maps.Clone(s.CustomLabels)
	for _, labels := range []map[string]string{w.req.OwnerLabels, w.req.ReleaseLabels} {
		for name := range labels {
			delete(s.CustomLabels, name)
		}
	}
	maps.Copy(s.CustomLabels, w.req.OneOffLabels)
}
