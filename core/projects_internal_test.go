package core

import (
	"context"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// diskAgents is a host with files below /srv, which alone may be read.
type diskAgents struct {
	files map[string]string
	asked []string
}

func (*diskAgents) Observed() fleet.Observed { return nil }

func (d *diskAgents) Files(_ context.Context, _ string, req wire.FilesRequest) ([]wire.HostFile, error) {
	if !strings.HasPrefix(req.Dir, "/srv/") {
		return nil, wire.Errorf(wire.CodeDenied, "the policy does not let core use %s", req.Dir)
	}
	var out []wire.HostFile
	for _, name := range req.Files {
		d.asked = append(d.asked, name)
		content, there := d.files[path.Join(req.Dir, name)]
		out = append(out, wire.HostFile{Path: name, Mode: 0o644, Content: []byte(content), Missing: !there})
	}
	return out, nil
}

func TestProjectFilesAreWhatTheProjectIsMadeOf(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	disk := &diskAgents{files: map[string]string{
		"/srv/web/compose.yaml": "include: [more/extra.yaml]\nservices:\n  app:\n    image: app:${TAG}\n    env_file: [app.env]\n" +
			"    volumes: [./data:/data, /etc/localtime:/etc/localtime, named:/n]\nvolumes: {named: {}}\n",
		"/srv/web/more/extra.yaml": "services:\n  side:\n    image: side:${UNSET}\n    configs: [c]\nconfigs: {c: {file: ./conf}}\n",
		"/srv/web/.env":            "TAG=1\n",
		"/srv/web/app.env":         "A=b\n",
		"/srv/web/data":            "must not be read",
		"/srv/web/unrelated":       "must not be read",
	}}
	src.agents = disk
	got, err := src.ProjectFiles(t.Context(), "alpha", wire.Project{
		Name: "web", WorkingDir: "/srv/web", ConfigFiles: []string{"/srv/web/compose.yaml"}, EnvFiles: []string{"/srv/web/.env"},
	})
	if err != nil || len(got.Diagnostics)+len(got.Refused) > 0 {
		t.Fatalf("%v, %+v", err, got)
	}
	var names []string
	for _, f := range got.Files {
		names = append(names, f.Path)
	}
	if diff := cmp.Diff([]string{".env", "app.env", "compose.yaml", "more/extra.yaml"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"data", "more/conf"}, got.Mounts); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	if slices.Contains(disk.asked, "data") {
		t.Error("data was read")
	}
}

func TestProjectFilesThatMayNotBeReadAreSaid(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	src.agents = &diskAgents{}
	for name, tc := range map[string]struct {
		project wire.Project
		want    []api.RefusedFile
	}{
		"policy": {
			wire.Project{WorkingDir: "/home/ada/web", ConfigFiles: []string{"/home/ada/web/compose.yaml"}},
			[]api.RefusedFile{{Path: "/home/ada/web", Reason: "the policy does not let core use /home/ada/web"}},
		},
		"outside": {
			wire.Project{WorkingDir: "/srv/web", ConfigFiles: []string{"/srv/other/compose.yaml"}},
			[]api.RefusedFile{{Path: "/srv/other/compose.yaml", Reason: "it is outside of the project's directory /srv/web"}},
		},
		"unknown": {wire.Project{}, []api.RefusedFile{{Reason: "the containers do not say from which files they were made"}}},
	} {
		got, err := src.ProjectFiles(t.Context(), "alpha", tc.project)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, got.Refused); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
