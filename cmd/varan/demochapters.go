package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/githook"
	"github.com/varanhq/varan/sync/git"
)

// changeOneService commits a change to one file that one service mounts, and lets a
// webhook do the rest.
func (d *demo) changeOneService(ctx context.Context) error {
	before, err := d.containers(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(d.out)
	commit, err := d.commit("say hello from commit two",
		map[string]string{"site/public/index.txt": "Hello from commit two\n"})
	if err != nil {
		return err
	}
	d.say("commit %s %q changes a file that one of the four services mounts", commit.Short(), commit.Subject)
	if _, err := d.showPlan(ctx); err != nil {
		return err
	}
	if err := d.pushAndWait(ctx, commit); err != nil {
		return err
	}
	after, err := d.containers(ctx)
	if err != nil {
		return err
	}
	replaced := difference(after, before)
	fmt.Fprintf(d.out, "recreated %d of %d containers: %s; the others kept their ids\n",
		len(replaced), len(after), d.style.bold(strings.Join(replaced, ", ")))
	if len(replaced) != 1 {
		return fmt.Errorf("expected exactly one container to be recreated, not %d", len(replaced))
	}
	if _, err := d.showWhy(ctx); err != nil {
		return err
	}
	return d.showAnswer(ctx, "Hello from commit two")
}

// showWhy asks for the story of the site.
func (d *demo) showWhy(ctx context.Context) (api.Why, error) {
	d.shell("varan why demo-site")
	why, err := d.api.Why(ctx, "demo-site")
	if err != nil {
		return why, fmt.Errorf("ask why: %w", err)
	}
	d.app.printWhy(why)
	return why, nil
}

// breakOneService commits a command that cannot start and shows the rollback.
func (d *demo) breakOneService(ctx context.Context) error {
	files, err := d.files()
	if err != nil {
		return err
	}
	fmt.Fprintln(d.out)
	broken := strings.Replace(files["site/compose.yaml"], `"@/site/index.txt"]`, `"@/site/index.txt", "--exit-after", "0s"]`, 1)
	commit, err := d.commit("break the site on purpose", map[string]string{"site/compose.yaml": broken})
	if err != nil {
		return err
	}
	d.say("commit %s %q makes that service exit as soon as it starts", commit.Short(), commit.Subject)
	if _, err := d.showPlan(ctx); err != nil {
		return err
	}
	if err := d.pushAndWait(ctx, commit); err != nil {
		return err
	}
	why, err := d.showWhy(ctx)
	if err != nil {
		return err
	}
	if why.LastOp == nil || why.LastOp.Status != api.OpRolledBack {
		return fmt.Errorf("expected the broken commit to be rolled back, not %q", why.Summary)
	}
	return d.showAnswer(ctx, "Hello from commit two")
}

func (d *demo) commit(message string, files map[string]string) (fleet.Commit, error) {
	commit, err := git.CommitFiles(d.repo(), files, message, time.Now())
	if err != nil {
		return fleet.Commit{}, fmt.Errorf("commit to the demo's repository: %w", err)
	}
	return commit, nil
}

// pushAndWait tells core of a commit the way a Git host does, and waits for the end of
// what that sets going.
func (d *demo) pushAndWait(ctx context.Context, commit fleet.Commit) error {
	if err := d.webhook(ctx, commit); err != nil {
		return err
	}
	var op api.Op
	err := d.wait(ctx, "the deploy and its verdict", func(ctx context.Context) (bool, error) {
		ops, err := d.api.History(ctx, "demo-site", api.Page{Limit: 1})
		if err != nil || len(ops) == 0 || ops[0].Commit.ID != commit.ID || ops[0].Ended.IsZero() {
			return false, err
		}
		op = ops[0]
		return d.settled(ctx)
	})
	if err != nil {
		return err
	}
	line := fmt.Sprintf("%s %s in %s", op.ID, opStatus(d.style, op.Status),
		op.Ended.Sub(op.Started).Round(10*time.Millisecond))
	if op.Reason != "" {
		line += ": " + printable(op.Reason)
	}
	fmt.Fprintln(d.out, line)
	return nil
}

// settled reports whether core has seen what the last deploy left behind: until then an
// answer would speak of work that is still being done.
func (d *demo) settled(ctx context.Context) (bool, error) {
	stacks, err := d.api.Stacks(ctx)
	for i := range stacks {
		if s := &stacks[i]; s.Name == "demo-site" {
			return s.Health == fleet.Healthy && (s.Sync == fleet.Synced || s.Sync == fleet.SyncBlocked), err
		}
	}
	return false, err
}

// webhook sends what GitHub would send for a push, signed with the sync's secret.
func (d *demo) webhook(ctx context.Context, commit fleet.Commit) error {
	push := githook.Push{
		Core: d.api.BaseURL, Kind: "sync", Name: demoSync, Action: "sync", Secret: d.secret.Secret(), Branch: commit.Branch, ID: commit.ID,
	}
	req, err := push.Request(ctx)
	if err != nil {
		return err
	}
	d.shell("git push   # and the Git host calls the webhook")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("send the push: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return fmt.Errorf("read the webhook's answer: %w", err)
	}
	fmt.Fprintf(d.out, "%s %s\n", resp.Status, d.style.dim(strings.TrimSpace(string(answer))))
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("the webhook answered %s", resp.Status)
	}
	return nil
}

// showContainers is `docker ps` for the demo.
func (d *demo) showContainers(ctx context.Context) error {
	d.shell("docker ps --filter label=" + fleet.LabelServer)
	list, err := d.list(ctx)
	if err != nil {
		return err
	}
	t := table{head: []string{"CONTAINER", "SERVER", "STATE", "STATUS", "IMAGE"}}
	for i := range list.Items {
		c := &list.Items[i]
		t.add(containerName(c.Names), c.Labels[fleet.LabelServer], string(c.State), c.Status, c.Image)
	}
	slices.SortFunc(t.rows, func(x, y []string) int { return strings.Compare(x[1]+x[0], y[1]+y[0]) })
	t.write(d.out, d.style)
	return nil
}

// containers maps the name of each container of the demo to its id.
func (d *demo) containers(ctx context.Context) (map[string]string, error) {
	list, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	ids := map[string]string{}
	for i := range list.Items {
		ids[containerName(list.Items[i].Names)] = list.Items[i].ID
	}
	return ids, nil
}

// list finds the demo's containers by their server's label.
func (d *demo) list(ctx context.Context) (client.ContainerListResult, error) {
	var all client.ContainerListResult
	for _, server := range demoServers {
		filter := client.Filters{}.Add("label", fleet.LabelServer+"="+server)
		list, err := d.docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filter})
		if err != nil {
			return all, fmt.Errorf("list the demo's containers: %w", err)
		}
		all.Items = append(all.Items, list.Items...)
	}
	return all, nil
}

func containerName(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return strings.TrimPrefix(names[0], "/")
}

// difference lists the names whose id is not the one it was.
func difference(after, before map[string]string) []string {
	var names []string
	for name, id := range after {
		if before[name] != id {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
