// Package worker is the short-lived child process that changes containers. It is the
// only importer of the Compose SDK. A process of its own keeps that SDK's exits, globals
// and locks away from the agent, and outlives it: a container is never left half
// recreated because the agent went away.
//
// It acts on the request it reads and nothing else: no environment, no .env file, no
// Docker context.
package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/docker/cli/cli/flags"
	"github.com/docker/compose/v5/pkg/api"
	"github.com/docker/compose/v5/pkg/compose"
	"github.com/moby/moby/client"

	"github.com/varanhq/varan/agent/docker/job"
)

// composeVersion is what labels say the stacks were made with, where the linker did not
// say. A test compares it with go.mod.
const composeVersion = "5.5.1"

// maxRequest bounds what is read from standard input.
const maxRequest = 1 << 20

// Main reads a job.Request from stdin, carries it out and writes job.Line values to
// stdout. It returns the exit code: 0 when a result was written, whatever the result.
//
// Main belongs to a process that does nothing else: it changes process-wide state.
func Main(ctx context.Context, stdin io.Reader, stdout io.Writer) int {
	// The agent may die while we work. Its end of the pipe closing must not end us.
	signal.Ignore(syscall.SIGPIPE)
	// Whatever the SDK prints must not mix with our lines.
	os.Stdout = os.Stderr
	out := &output{w: stdout}
	var req job.Request
	if err := json.NewDecoder(io.LimitReader(stdin, maxRequest)).Decode(&req); err != nil {
		out.result(job.Result{Error: fmt.Sprintf("read request: %v", err)})
		return 1
	}
	ctx, cancel := context.WithDeadline(ctx, req.Deadline)
	defer cancel()
	out.result(run(ctx, req, out))
	return 0
}

// run carries out one request.
func run(ctx context.Context, req job.Request, out *output) job.Result {
	w := &work{req: req, out: out}
	if err := w.open(ctx); err != nil {
		return job.Result{Error: err.Error()}
	}
	defer func() { _ = w.client.Close() }()
	if req.Op == job.Pull {
		return job.Result{Images: w.pull(ctx)}
	}
	if req.Op == job.Hash {
		hashes, err := w.hashes(ctx)
		if err != nil {
			return job.Result{Error: err.Error()}
		}
		return job.Result{Hashes: hashes}
	}
	if err := w.change(ctx); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("gave up at the deadline: %w", err)
		}
		return job.Result{Error: err.Error()}
	}
	return job.Result{}
}

// work is one request being carried out.
type work struct {
	req     job.Request
	out     *output
	client  *client.Client
	compose api.Compose
	// volumes maps Docker's name of a volume to its key in the model.
	volumes map[string]string
}

// open connects to the engine.
func (w *work) open(ctx context.Context) error {
	var err error
	w.client, err = client.New(client.WithTLSClientConfigFromEnv(), client.WithHost(w.req.Host))
	if err != nil {
		return fmt.Errorf("open the engine at %s: %w", w.req.Host, err)
	}
	// docker/cli ends the process when it cannot find its endpoint. With a host and a
	// client of ours it never looks for one. The streams are given here and not to the
	// SDK, which re-wraps its client when it is given streams.
	cli, err := command.NewDockerCli(
		command.WithBaseContext(ctx),
		command.WithAPIClient(w.client),
		command.WithInputStream(io.NopCloser(bytes.NewReader(nil))),
		command.WithCombinedStreams(os.Stderr),
	)
	if err != nil {
		return fmt.Errorf("set up docker: %w", err)
	}
	if err := cli.Initialize(&flags.ClientOptions{Hosts: []string{w.req.Host}, LogLevel: "warn"}); err != nil {
		return fmt.Errorf("set up docker: %w", err)
	}
	w.logIn(cli.ConfigFile())
	if api.ComposeVersion == "" {
		api.ComposeVersion = composeVersion
	}
	w.compose, err = compose.NewComposeService(cli, compose.WithPrompt(w.answer), compose.WithEventProcessor(w.out))
	if err != nil {
		return fmt.Errorf("set up compose: %w", err)
	}
	return nil
}

// dockerHub is how Docker's own registry is written, by people and in its configuration.
var dockerHub = map[string]string{
	"docker.io": "https://index.docker.io/v1/", "index.docker.io": "https://index.docker.io/v1/",
	"registry-1.docker.io": "https://index.docker.io/v1/",
}

// logIn adds accounts to the configuration in memory. It is never saved, and no helper
// program of the host is asked about these registries.
func (w *work) logIn(config *configfile.ConfigFile) {
	for _, l := range w.req.Logins {
		key := l.Registry
		if hub, ok := dockerHub[key]; ok {
			key = hub
		}
		if config.AuthConfigs == nil {
			config.AuthConfigs = map[string]types.AuthConfig{}
		}
		config.AuthConfigs[key] = types.AuthConfig{Username: l.Username, Password: l.Password, ServerAddress: key}
		if config.CredentialsStore != "" || config.CredentialHelpers != nil {
			if config.CredentialHelpers == nil {
				config.CredentialHelpers = map[string]string{}
			}
			config.CredentialHelpers[key] = ""
		}
	}
}

// answer says no to everything but the recreation of a volume that a person gave up.
func (w *work) answer(question string, _ bool) (bool, error) {
	yes := false
	for _, key := range w.req.RecreateVolumes {
		for name, k := range w.volumes {
			// The question quotes the volume's full name; there is no other way to tell.
			yes = yes || k == key && strings.HasPrefix(question, fmt.Sprintf("Volume %q exists", name))
		}
	}
	w.out.question(job.Question{Text: question, Answer: yes})
	return yes, nil
}

// errProvider refuses services that would run a program of the host.
var errProvider = errors.New("services with a provider are refused: they run a program on the host")
