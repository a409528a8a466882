package core_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/gitserver"
)

// declareSync is a [[resource_sync]] for a test server's repository.
func declareSync(name string, srv *gitserver.Server, extra string) string {
	host := strings.TrimSuffix(strings.TrimPrefix(srv.URL(), "http://"), "/repo.git")
	return fmt.Sprintf("[[resource_sync]]\nname = %q\ngit_provider = %q\ngit_https = false\nrepo = \"repo\"\n%s\n", name, host, extra)
}

// inline is a stack whose Compose file is in the resource file.
func inline(name, server, image, extra string) string {
	return fmt.Sprintf("[[stack]]\nname = %q\nserver = %q\n%s\nfile_contents = \"services: {app: {image: %s}}\"\n", name, server, extra, image)
}

const server = "[[server]]\nname = \"alpha\"\nenabled = true\n"

func (r *rig) addSync(name string, srv *gitserver.Server) {
	r.t.Helper()
	_, err := r.AddSync(r.t.Context(), api.SyncSpec{
		Name: name, URL: srv.URL(), AutoApply: true, Delete: true, IntervalSeconds: 3600,
	})
	must(r.t, err)
}

func (r *rig) run(name string) {
	r.t.Helper()
	_, err := r.RunSync(r.t.Context(), name)
	must(r.t, err)
}

func (r *rig) sync(name string) api.Sync {
	sync, err := r.Sync(r.t.Context(), name)
	if err != nil {
		return api.Sync{}
	}
	return sync
}

func TestASyncDeclaresAnotherAndItself(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root, apps := gitserver.New(t), gitserver.New(t)
	apps.RequireBasic("ada", "canary-3")
	engine := r.join("alpha")
	host := strings.TrimSuffix(strings.TrimPrefix(apps.URL(), "http://"), "/repo.git")
	_, err := r.SetAccount(t.Context(), api.AccountID{Kind: api.AccountGit, Domain: host, Username: "ada"}, api.AccountSpec{Token: "canary-3"})
	must(t, err)
	apps.Commit(map[string]string{"a.toml": inline("web", "alpha", "[[IMAGE]]", "")}, "apps")
	root.Commit(map[string]string{"r.toml": server + "[[variable]]\nname = \"IMAGE\"\nvalue = \"app:1\"\n" +
		declareSync("main", root, "interval = \"2h\"\nself_heal = true") +
		declareSync("apps", apps, "git_account = \"ada\"\nauto_apply = true\ninterval = \"1h\"")}, "root")
	r.addSync("main", root)

	// The other sync sees the server and the variable, and opens its repository with the account.
	r.eventually("web runs", func() bool { return r.stack("web").Sync == fleet.Synced })
	if orders := engine.Orders(); len(orders) != 1 {
		t.Errorf("%d orders", len(orders))
	}
	r.eventually("main has its own settings", func() bool { return r.sync("main").IntervalSeconds == 7200 })
	main, declared := r.sync("main"), r.sync("apps")
	if !main.SelfHeal || !main.AutoApply || !main.Delete || main.DeclaredBy != "" || main.State.Phase == "applying" {
		t.Errorf("main: %+v", main)
	}
	if declared.DeclaredBy != "main" || !declared.AutoApply || declared.Delete || declared.IntervalSeconds != 3600 {
		t.Errorf("apps: %+v", declared)
	}
	r.eventually("nothing stays pending", func() bool {
		return r.sync("main").State.Unrecorded == 0 && r.sync("apps").State.Unrecorded == 0
	})

	// A sync that leaves the files goes; what it deployed stays.
	root.Commit(map[string]string{"r.toml": server + "[[variable]]\nname = \"IMAGE\"\nvalue = \"app:1\"\n" +
		declareSync("main", root, "interval = \"2h\"\nself_heal = true")}, "no apps")
	r.run("main")
	r.eventually("apps is gone", func() bool { return r.sync("apps").Name == "" })
	if orders := engine.Orders(); len(orders) != 1 {
		t.Errorf("removing a sync removed what it deployed: %d orders", len(orders))
	}
	if strings.Contains(r.log.String(), "canary") {
		t.Error("the log holds a token")
	}
}

func TestADeclaredSyncOnlyPlansUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := gitserver.New(t)
	engine := r.join("alpha")
	root.Commit(map[string]string{"r.toml": server + "[[resource_sync]]\nname = \"inline\"\nfile_contents = '''\n" +
		inline("web", "alpha", "app:1", "") + "[[variable]]\nname = \"X\"\nvalue = \"1\"\n'''\n"}, "root")
	r.addSync("main", root)
	r.eventually("inline is planned", func() bool { return r.sync("inline").State.Pending == 1 })
	if n := len(engine.Orders()); n != 0 {
		t.Errorf("%d orders", n)
	}
	pending, err := r.Pending(t.Context(), "inline")
	must(t, err)
	// Variables are left out: include_variables is off for a declared sync, as in Komodo.
	if len(pending.Plan.Resources) != 1 || pending.Plan.Resources[0].ID() != "create stack/web" {
		t.Errorf("resources: %+v", pending.Plan.Resources)
	}
	_, err = r.Apply(t.Context(), "inline", api.ApplyRequest{}, nil)
	must(t, err)
	r.eventually("the pending view is clear", func() bool {
		state := r.sync("inline").State
		return state.Pending+state.Unrecorded == 0
	})
}

func TestOneSyncNeverTakesWhatAnotherOwns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := gitserver.New(t), gitserver.New(t)
	engine := r.join("alpha")
	a.Commit(map[string]string{"r.toml": inline("web", "alpha", "app:1", "") + "[[variable]]\nname = \"X\"\nvalue = \"a\"\n"}, "a")
	r.addSync("a", a)
	r.eventually("web runs", func() bool { return r.stack("web").Sync == fleet.Synced })
	b.Commit(map[string]string{"r.toml": inline("web", "alpha", "app:2", "") + "[[variable]]\nname = \"X\"\nvalue = \"b\"\n" +
		declareSync("a", b, "")}, "b")
	r.addSync("b", b)
	r.eventually("b is blocked", func() bool { return r.sync("b").State.Blocked == 1 })
	pending, err := r.Pending(t.Context(), "b")
	must(t, err)
	for _, c := range pending.Plan.Resources {
		if c.Blocked == "" {
			t.Errorf("%s is not blocked", c.ID())
		}
	}
	if r.sync("a").URL != a.URL() || len(engine.Orders()) != 1 {
		t.Error("b changed what a owns")
	}
	// The last commit of b takes nothing of a's away either.
	b.Commit(map[string]string{"r.toml": "[[variable]]\nname = \"Y\"\nvalue = \"b\"\n"}, "b")
	r.run("b")
	r.eventually("b has Y", func() bool { _, err := r.Resource(t.Context(), "variable", "Y"); return err == nil })
	if x, err := r.Resource(t.Context(), "variable", "X"); err != nil || x.Sync != "a" || x.Field("value").Value != "a" {
		t.Errorf("X: %+v, %v", x, err)
	}
}

func TestOrderHoldsAcrossSyncs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	infra, apps := gitserver.New(t), gitserver.New(t)
	engine := r.join("alpha")
	infra.Commit(map[string]string{"r.toml": inline("db", "alpha", "db:1", "")}, "infra")
	apps.Commit(map[string]string{"r.toml": inline("web", "alpha", "app:1", `after = ["db"]`)}, "apps")
	r.addSync("apps", apps)
	r.eventually("apps does not know db", func() bool { return r.sync("apps").State.Phase == "stalled" })
	r.addSync("infra", infra)
	r.eventually("web runs", func() bool { return r.stack("web").Sync == fleet.Synced })
	var order []string
	for _, o := range engine.Orders() {
		order = append(order, o.Stack)
	}
	if !slices.Equal(order, []string{"db", "web"}) {
		t.Errorf("order %v", order)
	}
	// A circle across the two is a fault of the commit that closes it.
	infra.Commit(map[string]string{"r.toml": inline("db", "alpha", "db:2", `after = ["web"]`)}, "circle")
	r.run("infra")
	r.eventually("infra stalls", func() bool { return r.sync("infra").State.Phase == "stalled" })
	if text := r.sync("infra").State.Diagnostics.Error(); !strings.Contains(text, "db (infra) -> web (apps) -> db (infra) [after-cycle]") {
		t.Errorf("diagnostics: %s", text)
	}
}

// A repository that cannot be read is no fault of the commit: its stack is left as it runs,
// and the others go on.
func TestARepositoryThatCannotBeReadStopsItsStacksAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := gitserver.New(t)
	engine := r.join("alpha")
	root.Commit(map[string]string{"r.toml": inline("web", "alpha", "app:1", "") + inline("db", "alpha", "db:1", "")}, "one")
	r.addSync("main", root)
	r.eventually("both run", func() bool { return r.stack("web").Sync == fleet.Synced && r.stack("db").Sync == fleet.Synced })
	root.Commit(map[string]string{"r.toml": "[[stack]]\nname = \"web\"\nserver = \"alpha\"\n" +
		"git_provider = \"127.0.0.1:1\"\ngit_https = false\nrepo = \"lost\"\n" + inline("db", "alpha", "db:2", "")}, "two")
	r.run("main")
	r.eventually("web is blocked, and db goes on", func() bool {
		return r.stack("web").Sync == fleet.SyncBlocked && r.stack("db").Sync == fleet.Synced && len(engine.Orders()) == 3
	})
	if text := r.stack("web").Text; !strings.Contains(text, "the repository 127.0.0.1:1/lost cannot be read: ") {
		t.Errorf("the reason is %q", text)
	}
	root.Commit(map[string]string{"r.toml": inline("web", "alpha", "app:1", "") + inline("db", "alpha", "db:2", "")}, "three")
	r.run("main")
	r.eventually("web is as before", func() bool { return r.stack("web").Sync == fleet.Synced })
	if orders := engine.Orders(); len(orders) != 3 {
		t.Errorf("%d orders, want 3", len(orders))
	}
}

func TestAStackFollowsItsOwnRepository(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root, files := gitserver.New(t), gitserver.New(t)
	engine := r.join("alpha")
	host := strings.TrimSuffix(strings.TrimPrefix(files.URL(), "http://"), "/repo.git")
	compose := func(image string) map[string]string {
		return map[string]string{"compose.yaml": "services: {app: {image: " + image + "}}\n"}
	}
	files.Commit(compose("app:1"), "one")
	root.Commit(map[string]string{"r.toml": fmt.Sprintf("[[stack]]\nname = \"web\"\nserver = \"alpha\"\n"+
		"git_provider = %q\ngit_https = false\nrepo = \"repo\"\nwebhook_secret = \"long-enough\"\n", host)}, "root")
	r.addSync("main", root)
	r.eventually("web runs", func() bool { return r.stack("web").Sync == fleet.Synced })
	files.Commit(compose("app:2"), "two")
	if status := r.hook("/listener/github/stack/web/deploy", "wrong-secret"); status != http.StatusUnauthorized {
		t.Errorf("a wrong secret got %d", status)
	}
	if status := r.hook("/listener/github/stack/web/deploy", "long-enough"); status != http.StatusAccepted {
		t.Errorf("the webhook got %d", status)
	}
	r.eventually("the push is deployed", func() bool { return len(engine.Orders()) == 2 })
	if image := engine.Orders()[1].Release.Services[0].Image; image != "app:2" {
		t.Errorf("image %s", image)
	}
}
