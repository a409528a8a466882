package agentcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/internal/settings"
)

// peripheryKeys are the keys of Komodo's periphery.config.toml that set nothing here, with
// what to do instead. Those that do set something are aliases in Settings.
var peripheryKeys = []struct{ key, instead string }{
	{"private_key", "the agent has a key of its own, in its state directory"},
	{"passkeys", "core proves who it is with its key: set core_public_key, or onboard; core learns the agent's by varan server accept. Then remove the passkeys"},
	{"root_directory", "the agent's files are in dir"},
	{"repo_dir", "set repo_directory in the policy file of this host"},
	{"stack_dir", "files of stacks are below dir; others are named in host_directories of the policy file"},
	{"build_dir", "builds run in the directory of their stack"},
	{"secrets", "move them to [secrets] of the policy file of this host, or to --secrets-file"},
	{"git_provider", "agents have no Git: give core the account with varan account set"},
	{"image_registry", "move the accounts to [[registry]] of the policy file of this host, or to core with varan account set"},
	{"docker_registry", "move the accounts to [[registry]] of the policy file of this host, or to core with varan account set"},
	{"default_terminal_command", "the agent opens no terminals"},
	{"disable_terminals", "the agent opens no terminals"},
	{"disable_container_terminals", "the agent opens no terminals"},
	{"disable_container_exec", "the agent opens no terminals"},
	{"stats_polling_rate", "the agent records no statistics"},
	{"container_stats_polling_rate", "the agent records no statistics"},
	{"include_disk_mounts", "the agent records no statistics"},
	{"exclude_disk_mounts", "the agent records no statistics"},
	{"legacy_compose_cli", "Compose is part of the agent"},
	{"logging", "set log.level and log.format"},
	{"pretty_startup_config", "--print-config shows it"},
}

// ignoredKeys are the keys alone.
func ignoredKeys() []string {
	keys := make([]string, len(peripheryKeys))
	for i, k := range peripheryKeys {
		keys[i] = k.key
	}
	return keys
}

// warnIgnored says where the file has what has no effect, and what has.
func warnIgnored(ctx context.Context, logger *slog.Logger, ignored []settings.Ignored) {
	for _, found := range ignored {
		for _, k := range peripheryKeys {
			if found.Key == k.key || strings.HasPrefix(found.Key, k.key+".") {
				logger.WarnContext(ctx, "a key of Komodo's periphery sets nothing here", slog.String("at", found.Pos.String()),
					slog.String("key", found.Key), slog.String("instead", k.instead))
			}
		}
	}
}

// forgetToken removes the onboarding key from the file that holds it (rule O10); nil when no
// file does.
func forgetToken(origin settings.Origin) func() error {
	switch {
	case origin.Missing:
		return nil
	case origin.File != "":
		return func() error {
			if err := os.Remove(origin.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove the onboarding key: %w", err)
			}
			return nil
		}
	case origin.Name == "" && origin.Pos.Line > 0:
		return func() error { return dropKey(origin.Pos.File, origin.Pos.Line) }
	}
	return nil
}

// dropKey takes the line with the onboarding key out of a configuration.
func dropKey(path string, line int) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("remove the onboarding key: %w", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("remove the onboarding key: %w", err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if line > len(lines) || !bytes.HasPrefix(bytes.TrimSpace(lines[line-1]), []byte("onboarding_key")) ||
		bytes.Contains(lines[line-1], []byte(`"""`)) || bytes.Contains(lines[line-1], []byte("'''")) {
		return fmt.Errorf("%s:%d is no line with the onboarding key alone", path, line)
	}
	lines[line-1] = []byte("# The onboarding key was here; it is spent.\n")
	if err := atomicfile.Write(path, bytes.Join(lines, nil), info.Mode().Perm()); err != nil {
		return fmt.Errorf("remove the onboarding key: %w", err)
	}
	return nil
}
