package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/compose/v5/pkg/api"
	"github.com/docker/compose/v5/pkg/compose"
	"golang.org/x/sync/errgroup"

	"github.com/varanhq/varan/agent/docker/job"
)

// pullParallel is how many images are pulled at a time; the engine has a limit of its
// own for layers.
const pullParallel = 4

// pull pulls every image, each on its own: the SDK's way for many stops at the first
// failure and then cannot tell which images failed.
func (w *work) pull(ctx context.Context) map[string]string {
	var (
		mu     sync.Mutex
		failed = map[string]string{}
		group  errgroup.Group
	)
	group.SetLimit(pullParallel)
	for _, img := range w.req.Images {
		group.Go(func() error {
			project := &types.Project{Name: w.req.Project, Services: types.Services{
				"image": {Name: "image", Image: img.Ref, Platform: img.Platform},
			}}
			err := w.compose.Pull(ctx, project, api.PullOptions{})
			if err == nil {
				// The SDK calls an interrupted pull a success.
				err = ctx.Err()
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed[img.Ref] = err.Error()
			}
			return nil
		})
	}
	_ = group.Wait()
	return failed
}

// hashes tells what Compose would record of each service without some labels.
func (w *work) hashes(ctx context.Context) (map[string]string, error) {
	project, err := w.load(ctx)
	if err != nil {
		return nil, err
	}
	if project == nil {
		return nil, errors.New("no model")
	}
	out := make(map[string]string, len(project.Services))
	for name, s := range project.Services {
		for _, label := range w.req.Unlabelled {
			delete(s.Labels, label)
		}
		if len(s.Labels) == 0 {
			s.Labels = nil
		}
		if out[name], err = compose.ServiceHash(s); err != nil {
			return nil, fmt.Errorf("service %s: %w", name, err)
		}
	}
	return out, nil
}

// change carries out every op but Pull and Hash.
func (w *work) change(ctx context.Context) error {
	project, err := w.load(ctx)
	if err != nil {
		return err
	}
	name, services := w.req.Project, w.req.Services
	switch w.req.Op {
	case job.Up:
		return w.up(ctx, project)
	case job.Build:
		build := buildOptions()
		build.Services, build.Pull, build.NoCache = services, w.req.Refresh, w.req.BuildFlags.NoCache
		for name, value := range w.req.BuildFlags.Args {
			if build.Args == nil {
				build.Args = types.MappingWithEquals{}
			}
			build.Args[name] = &value
		}
		return w.compose.Build(ctx, project, *build)
	case job.Down:
		// Without a project the SDK takes everything that carries the project's label,
		// services and networks of earlier releases included.
		return w.compose.Down(ctx, name, api.DownOptions{
			RemoveOrphans: len(services) == 0, Volumes: w.req.Volumes, Services: services, Timeout: w.patience(),
		})
	case job.Restart:
		return w.compose.Restart(ctx, name, api.RestartOptions{
			Project: project, Services: services, NoDeps: len(services) > 0, Timeout: w.patience(),
		})
	case job.Stop:
		return w.compose.Stop(ctx, name, api.StopOptions{Project: project, Services: services, Timeout: w.patience()})
	case job.Pause:
		return w.compose.Pause(ctx, name, api.PauseOptions{Project: project, Services: services})
	case job.Unpause:
		return w.compose.UnPause(ctx, name, api.PauseOptions{Project: project, Services: services})
	case job.Start:
		if project != nil && len(services) > 0 {
			if project, err = project.WithSelectedServices(services, types.IgnoreDependencies); err != nil {
				return err
			}
		}
		return w.compose.Start(ctx, name, api.StartOptions{Project: project, AttachTo: services})
	case job.Run:
		return w.oneOff(ctx, project)
	case job.Pull, job.Hash:
	}
	return fmt.Errorf("unknown op %q", w.req.Op)
}

// patience is how long a container may take to stop; nil leaves that to its own setting.
func (w *work) patience() *time.Duration {
	if w.req.StopSeconds <= 0 {
		return nil
	}
	wait := time.Duration(w.req.StopSeconds) * time.Second
	return &wait
}

// up creates and starts. Images were pulled before, so that nothing is pulled now:
// between the old container and the new one there must be no registry.
func (w *work) up(ctx context.Context, project *types.Project) error {
	if project == nil {
		return errors.New("no model")
	}
	if len(w.req.Only) > 0 {
		var err error
		if project, err = project.WithSelectedServices(w.req.Only, types.IgnoreDependencies); err != nil {
			return err
		}
	}
	for name, s := range project.Services {
		s.PullPolicy = types.PullPolicyNever
		project.Services[name] = s
	}
	create := api.CreateOptions{
		// Without it the SDK does not know the image of a service that is built.
		Build:                buildOptions(),
		IgnoreOrphans:        true,
		Recreate:             api.RecreateDiverged,
		RecreateDependencies: api.RecreateDiverged,
		Inherit:              true,
		Timeout:              w.patience(),
		QuietPull:            true,
	}
	if w.req.UpFlags.AlwaysRecreateDeps {
		create.RecreateDependencies = api.RecreateForce
	}
	create.Inherit, create.Timeout = !w.req.UpFlags.RenewAnonymousVolume, w.patience()
	switch {
	case w.req.UpFlags.ForceRecreate:
		create.Recreate, create.RecreateDependencies = api.RecreateForce, api.RecreateForce
	case len(w.req.Recreate) > 0:
		create.Services, create.Recreate = w.req.Recreate, api.RecreateForce
	}
	return w.compose.Up(ctx, project, api.UpOptions{Create: create, Start: api.StartOptions{Project: project}})
}

func buildOptions() *api.BuildOptions {
	return &api.BuildOptions{Progress: "plain", Out: os.Stderr}
}

// load reads the resolved model: nothing is interpolated, no environment is looked at.
func (w *work) load(ctx context.Context) (*types.Project, error) {
	if w.req.Model == "" {
		return nil, nil //nolint:nilnil // no model is a case of its own: the SDK then works from labels
	}
	opts, err := cli.NewProjectOptions(
		[]string{w.req.Model},
		cli.WithWorkingDirectory(w.req.Dir),
		cli.WithName(w.req.Project),
		cli.WithInterpolation(false),
		// Core left out what is not enabled. What is there must not be left out again.
		cli.WithProfiles([]string{"*"}),
		// Else a service with an env_file hashes differently than it does for the CLI.
		cli.WithDiscardEnvFile,
		cli.WithLoadOptions(func(o *loader.Options) {
			o.SkipInclude = true
			// A file that pre_deploy made may be gone when all there is to do is to stop.
			o.SkipResolveEnvironment = w.req.Op != job.Up && w.req.Op != job.Build && w.req.Op != job.Run
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	project, err := opts.LoadProject(ctx)
	if err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	project = project.WithoutUnnecessaryResources()
	return project, w.label(project)
}

// label puts the labels on that Compose and Varan find their things by.
func (w *work) label(project *types.Project) error {
	for name, s := range project.Services {
		if s.Provider != nil {
			return fmt.Errorf("service %s: %w", name, errProvider)
		}
		s.CustomLabels = types.Labels{
			api.ProjectLabel:     project.Name,
			api.ServiceLabel:     name,
			api.VersionLabel:     api.ComposeVersion,
			api.WorkingDirLabel:  project.WorkingDir,
			api.ConfigFilesLabel: w.req.Model,
			api.OneoffLabel:      "False",
		}
		maps.Copy(s.CustomLabels, w.req.OwnerLabels)
		maps.Copy(s.CustomLabels, w.req.ReleaseLabels)
		project.Services[name] = s
	}
	for key, n := range project.Networks {
		n.CustomLabels = types.Labels{}
		maps.Copy(n.CustomLabels, w.req.OwnerLabels)
		project.Networks[key] = n
	}
	w.volumes = map[string]string{}
	for key, v := range project.Volumes {
		v.CustomLabels = types.Labels{}
		maps.Copy(v.CustomLabels, w.req.OwnerLabels)
		project.Volumes[key] = v
		w.volumes[v.Name] = key
	}
	return nil
}
