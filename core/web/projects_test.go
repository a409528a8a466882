package web_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

func TestProjectsOfAServer(t *testing.T) {
	f := newFixture(t)
	f.agents.observed = fleet.Observed{"alpha": {Server: "alpha", Online: true}, "beta": {Server: "beta"}}
	f.agents.projects = map[string]wire.Projects{"alpha": {
		Projects: []wire.Project{
			{Name: "db", Server: "alpha", Stack: "database"},
			{Name: "web", WorkingDir: "/srv/web", ConfigFiles: []string{"/srv/web/compose.yaml"}, Containers: []wire.ProjectContainer{
				{ID: "1", Name: "web-app-1", Service: "app", Image: "app:1", State: fleet.StateRunning},
				{ID: "2", Name: "web-app-2", Service: "app", Image: "app:1", State: fleet.StateExited},
				{ID: "3", Name: "web-db-1", Service: "db", Image: "db:1", State: fleet.StateRunning},
			}},
		},
		Loose: []wire.ProjectContainer{{ID: "4", Name: "lone", Image: "x:1", State: fleet.StateRunning}},
	}}
	got, err := f.Projects(t.Context(), "alpha")
	must(t, err)
	want := api.HostProjects{
		Projects: []api.HostProject{
			{Name: "db", Server: "alpha", Stack: "database", Services: []api.HostService{}},
			{Name: "web", WorkingDir: "/srv/web", ConfigFiles: []string{"/srv/web/compose.yaml"}, Services: []api.HostService{
				{Name: "app", Image: "app:1", Containers: []api.HostContainer{
					{ID: "1", Name: "web-app-1", Image: "app:1", State: fleet.StateRunning},
					{ID: "2", Name: "web-app-2", Image: "app:1", State: fleet.StateExited},
				}},
				{Name: "db", Image: "db:1", Containers: []api.HostContainer{{ID: "3", Name: "web-db-1", Image: "db:1", State: fleet.StateRunning}}},
			}},
		},
		Loose: []api.HostContainer{{ID: "4", Name: "lone", Image: "x:1", State: fleet.StateRunning}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !got.Projects[0].Managed() || got.Projects[1].Managed() {
		t.Error("only db is Varan's")
	}

	files, err := f.ProjectFiles(t.Context(), "alpha", "web")
	must(t, err)
	if len(files.Files) != 1 || string(files.Files[0].Content) != "services: {}" || files.Dir != "/srv/web" || len(files.Refused) != 1 {
		t.Errorf("files %+v", files)
	}

	_, err = f.Projects(t.Context(), "beta")
	wantError(t, err, http.StatusServiceUnavailable, api.CodeUnavailable)
	_, err = f.Projects(t.Context(), "alhpa")
	wantError(t, err, http.StatusNotFound, api.CodeNotFound)
	_, err = f.ProjectFiles(t.Context(), "alpha", "wbe")
	wantError(t, err, http.StatusNotFound, api.CodeNotFound)
}
