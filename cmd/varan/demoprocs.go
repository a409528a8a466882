package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/fleet"
)

// demoProcesses are the core and the agents of a demo, as processes of their own.
type demoProcesses struct {
	dir, exe string
	started  []*demoProcess
}

type demoProcess struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// core initialises and starts a core and returns its address and the API key.
func (p *demoProcesses) core(ctx context.Context, dir string) (string, fleet.Secret, error) {
	data := filepath.Join(dir, "core")
	key, err := core.Init(ctx, data)
	if err != nil {
		return "", fleet.Secret{}, fmt.Errorf("initialise core: %w", err)
	}
	addrFile := filepath.Join(dir, "core.addr")
	proc, err := p.start(ctx, "core", nil, "core", "--dir", data, "--listen", "127.0.0.1:0",
		"--local-root", dir, "--addr-file", addrFile)
	if err != nil {
		return "", fleet.Secret{}, err
	}
	address, err := proc.waitForFile(ctx, addrFile)
	return address, key, err
}

// agent starts an agent. Its onboarding key travels in the environment, not in argv.
func (p *demoProcesses) agent(ctx context.Context, server, coreURL string, token fleet.Secret) error {
	_, err := p.start(ctx, server, []string{"VARAN_ONBOARDING_KEY=" + token.Reveal()},
		"agent", "--core", coreURL, "--connect-as", server, "--dir", filepath.Join(p.dir, server), "--drain", "5s")
	return err
}

func (p *demoProcesses) start(ctx context.Context, name string, env []string, args ...string) (*demoProcess, error) {
	proc := &demoProcess{name: name, log: filepath.Join(p.dir, name+".log"), done: make(chan struct{})}
	logFile, err := os.OpenFile(proc.log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create the log of %s: %w", name, err)
	}
	defer func() { _ = logFile.Close() }() // the child has its own descriptor
	// The processes outlive ctx: close stops them in order, or --keep leaves them.
	proc.cmd = exec.CommandContext(context.WithoutCancel(ctx), p.exe, args...) //nolint:gosec // this very program
	proc.cmd.Env = append(os.Environ(), env...)
	proc.cmd.Stdout, proc.cmd.Stderr = logFile, logFile
	// A group of their own keeps a Ctrl-C at the terminal from stopping them first.
	proc.cmd.SysProcAttr = newProcessGroup()
	if err := proc.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = proc.cmd.Wait()
		close(proc.done)
	}()
	p.started = append(p.started, proc)
	return proc, p.remember()
}

// waitForFile returns the content of a file that the process writes when it is ready.
func (p *demoProcess) waitForFile(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if raw, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(raw)), nil
		}
		select {
		case <-p.done:
			return "", fmt.Errorf("%s ended before it was ready", p.name)
		case <-ctx.Done():
			return "", fmt.Errorf("waited for %s: %w", p.name, ctx.Err())
		case <-ticker.C:
		}
	}
}

// stop ends the processes, newest first: politely, then for good.
func (p *demoProcesses) stop() {
	for _, proc := range slices.Backward(p.started) {
		_ = proc.cmd.Process.Signal(syscall.SIGTERM)
		timer := time.NewTimer(15 * time.Second)
		select {
		case <-proc.done:
		case <-timer.C:
			_ = proc.cmd.Process.Kill()
			<-proc.done
		}
		timer.Stop()
	}
}

// logTail is the last lines of every process's log.
func (p *demoProcesses) logTail() string {
	var b strings.Builder
	for _, proc := range p.started {
		raw, err := os.ReadFile(proc.log)
		if err != nil {
			continue
		}
		lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
		for _, line := range lines[max(0, len(lines)-5):] {
			fmt.Fprintf(&b, "  %s: %s\n", proc.name, printable(string(line)))
		}
	}
	return b.String()
}

// close leaves the host as it was, or tells how to play on.
func (d *demo) close(ctx context.Context, keep bool) {
	if keep {
		d.printKept()
		return
	}
	if d.dir == "" {
		return // it never began: what is there is another demo's
	}
	d.procs.stop()
	if err := errors.Join(d.removeAll(ctx), os.RemoveAll(d.dir)); err != nil {
		fmt.Fprintf(d.app.stderr, "varan: clean up: %v\nhint: varan demo --stop tries again\n", err)
		return
	}
	fmt.Fprintln(d.out, d.style.dim("Containers, networks, image and files of the demo are removed."))
}

// removeAll removes what any demo has made in Docker.
func (d *demo) removeAll(ctx context.Context) error {
	list, err := d.list(ctx)
	errs := []error{err}
	for i := range list.Items {
		_, err := d.docker.ContainerRemove(ctx, list.Items[i].ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		errs = append(errs, err)
	}
	for _, project := range demoStacks {
		errs = append(errs, d.removeNetworks(ctx, project))
	}
	images, err := d.docker.ImageList(ctx, client.ImageListOptions{})
	errs = append(errs, err)
	for i := range images.Items {
		for _, tag := range images.Items[i].RepoTags {
			if tag == demoImage || isDemoTag(tag) {
				_, err := d.docker.ImageRemove(ctx, tag, client.ImageRemoveOptions{})
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(slices.DeleteFunc(errs, errdefs.IsNotFound)...)
}

// isDemoTag recognises the tags that the agents gave the demo's last good images.
func isDemoTag(tag string) bool {
	for _, stack := range demoStacks {
		if strings.HasPrefix(tag, "varan-rollback/"+stack+"-") {
			return true
		}
	}
	return false
}

func (d *demo) removeNetworks(ctx context.Context, project string) error {
	filter := client.Filters{}.Add("label", "com.docker.compose.project="+project)
	list, err := d.docker.NetworkList(ctx, client.NetworkListOptions{Filters: filter})
	errs := []error{err}
	for i := range list.Items {
		_, err := d.docker.NetworkRemove(ctx, list.Items[i].ID, client.NetworkRemoveOptions{})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (d *demo) printKept() {
	fmt.Fprintf(d.out, `
%s Play with it:

  export VARAN_CORE=%s VARAN_API_KEY=%s
  %[4]s status
  %[4]s why demo-site
  %[4]s logs demo-site web -f

  cd %[5]s
  git revert --no-edit HEAD
  echo 'Hello from me' > site/public/index.txt
  git commit -am 'say hello'
  %[4]s plan
  %[4]s apply --yes
  curl http://127.0.0.1:%[6]d/

Stop it with:

  %[4]s demo --stop
`, d.style.bold("Left running."), d.api.BaseURL, d.api.Key.Reveal(), d.exe, d.repo(), d.port)
}
