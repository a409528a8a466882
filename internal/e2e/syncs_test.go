//go:build e2e

package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/gitserver"
)

// One sync declares another, and a stack of that one comes after a stack of the first.
func TestADeclaredSyncWaitsForTheOneThatDeclaresIt(t *testing.T) {
	w := newWorld(t, api.SyncSpec{AutoApply: true, Delete: true}, "alpha")
	apps := gitserver.New(t)
	db, web, server := w.name("db"), w.name("web"), w.name("alpha")
	stack := func(name, extra string) string {
		return fmt.Sprintf("[[stack]]\nname = %q\nserver = %q\nauto_pull = false\n%s\nfile_contents = '''\n"+
			"services:\n  app:\n    image: %s\n    command: [\"demo-service\"]\n'''\n", name, server, extra, image)
	}
	apps.Commit(map[string]string{"apps.toml": stack(web, fmt.Sprintf("after = [%q]", db))}, "apps")
	host := strings.TrimSuffix(strings.TrimPrefix(apps.URL(), "http://"), "/repo.git")
	w.git.Commit(map[string]string{"fleet.toml": stack(db, "") + fmt.Sprintf(
		"[[resource_sync]]\nname = \"apps\"\ngit_provider = %q\ngit_https = false\nrepo = \"repo\"\nauto_apply = true\n", host)}, "fleet")
	if _, err := w.api.RunSync(t.Context(), "fleet"); err != nil {
		t.Fatal(err)
	}
	deployed := map[string]api.Stack{}
	w.eventually("both stacks to run", func() bool {
		stacks, err := w.api.Stacks(t.Context())
		for _, s := range stacks {
			deployed[s.Name] = s
		}
		return err == nil && deployed[db].Sync == fleet.Synced && deployed[web].Sync == fleet.Synced
	})
	if !deployed[web].DeployedAt.After(deployed[db].DeployedAt) {
		t.Errorf("%s was deployed at %s, %s at %s", web, deployed[web].DeployedAt, db, deployed[db].DeployedAt)
	}
	for kind, name := range map[string]string{"stack": web, "resource_sync": "apps"} {
		if _, err := w.api.Resource(t.Context(), kind, name); err != nil {
			t.Errorf("%s %s is not on record: %v", kind, name, err)
		}
	}
}
