//go:build e2e

package e2e_test

import (
	"fmt"
	"maps"
	"strings"
)

// declare writes the resource file for stacks on servers: "web@alpha" or, with an order,
// "web@alpha after db".
func (w *world) declare(stacks ...string) map[string]string {
	var b strings.Builder
	servers := map[string]bool{}
	for _, s := range stacks {
		address, after, _ := strings.Cut(s, " after ")
		stack, server, _ := strings.Cut(address, "@")
		servers[server] = true
		fmt.Fprintf(&b, "[[stack]]\nname = %q\n", w.name(stack))
		if after != "" {
			fmt.Fprintf(&b, "after = [%q]\n", w.name(after))
		}
		fmt.Fprintf(&b, "[stack.config]\nserver = %q\nrun_directory = %q\nauto_pull = false\n\n", w.name(server), stack)
	}
	for server := range maps.Keys(servers) {
		fmt.Fprintf(&b, "[[server]]\nname = %q\n\n", w.name(server))
	}
	return map[string]string{"fleet.toml": b.String()}
}

// service is one service of a Compose file of the tests.
type service struct {
	name  string
	flags string // of the demo service
	extra string // more lines of the service, indented by four
}

// compose writes a Compose file.
func compose(services ...service) string {
	var b strings.Builder
	b.WriteString("services:\n")
	for _, s := range services {
		fmt.Fprintf(&b, "  %s:\n    image: %s\n    pull_policy: never\n    stop_grace_period: 1s\n    restart: unless-stopped\n",
			s.name, image)
		args := append([]string{"demo-service"}, strings.Fields(s.flags)...)
		quoted := make([]string, len(args))
		for i, a := range args {
			quoted[i] = fmt.Sprintf("%q", a)
		}
		fmt.Fprintf(&b, "    command: [%s]\n", strings.Join(quoted, ", "))
		b.WriteString(s.extra)
	}
	return b.String()
}

// with merges files; later ones win.
func with(files ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, f := range files {
		maps.Copy(all, f)
	}
	return all
}

// file is one file as a map, for with.
func file(path, content string) map[string]string { return map[string]string{path: content} }
