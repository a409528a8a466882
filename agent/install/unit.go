package install

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/varanhq/varan/agent/policy"
)

// unitHead is the same on every host.
const unitHead = `# Made by "varan-agent install", which writes it again when it changes. What is your own goes
# into a drop-in: systemctl edit varan-agent
[Unit]
Description=Varan agent: makes this host run what Git says
Documentation=https://github.com/varanhq/varan/blob/main/docs/servers.md
Wants=network-online.target
After=network-online.target docker.service
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=%s --config %s
Restart=always
RestartSec=5
# A stop lets a deploy that is under way end: the agent alone is told, its workers are not.
KillMode=mixed
TimeoutStopSec=90
StateDirectory=varan-agent
StateDirectoryMode=0700
# Secret files that containers mount are in the runtime directory: they outlive the agent.
RuntimeDirectory=varan-agent
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes

# The agent is root because whoever may use Docker's socket is, and because files of stacks
# belong to all kinds of users. What of root it does not need is taken away.
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
SystemCallArchitectures=native
`

// unitTight is for hosts on which core runs no commands: the agent and its workers need no
// more than files, the network and the engine's socket.
const unitTight = `PrivateTmp=yes
PrivateDevices=yes
ProtectSystem=strict
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictSUIDSGID=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
`

// unitLoose is for hosts whose policy lets stacks run commands: these are promised a host
// as root sees it.
const unitLoose = `# The policy of this host has host_commands = true: what stacks run here needs the rest.
ProtectKernelModules=yes
ProtectClock=yes
`

const unitTail = `
[Install]
WantedBy=multi-user.target
`

// Unit is the systemd unit for a host with that policy.
func Unit(allowed policy.Policy) string {
	var b strings.Builder
	fmt.Fprintf(&b, unitHead, programPath, configPath)
	if allowed.HostCommands {
		b.WriteString(unitLoose + unitTail)
		return b.String()
	}
	b.WriteString(unitTight)
	dirs := slices.Clone(allowed.HostDirectories)
	if allowed.RepoDirectory != "" {
		dirs = append(dirs, allowed.RepoDirectory)
	}
	slices.Sort(dirs)
	dirs = slices.Compact(dirs)
	if slices.ContainsFunc(dirs, home) {
		b.WriteString("# The policy of this host lets core use directories of users.\nProtectHome=no\n")
	} else {
		b.WriteString("ProtectHome=yes\n")
	}
	for _, dir := range dirs {
		// One that is not there yet must not keep the agent from starting.
		fmt.Fprintf(&b, "ReadWritePaths=%s\n", quoted("-"+dir))
	}
	b.WriteString(unitTail)
	return b.String()
}

// home reports the directories that ProtectHome hides.
func home(dir string) bool {
	return slices.ContainsFunc([]string{"/home", "/root", "/run/user"}, func(h string) bool {
		return dir == h || strings.HasPrefix(filepath.Clean(dir)+"/", h+"/")
	})
}

// quoted is a path as a unit has it: percent signs begin specifiers there.
func quoted(path string) string {
	path = strings.ReplaceAll(path, "%", "%%")
	if strings.ContainsAny(path, " \t\"'\\") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`
	}
	return path
}
