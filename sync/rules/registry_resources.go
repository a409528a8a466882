package rules

// resourceRules are about what resource files say.
var resourceRules = []Entry{
	{
		ID: "commit-signature", Group: GroupSources, Severity: fault, Title: "A commit is not signed by an accepted key",
		Why: "The sync believes signed commits only: whoever gets hold of the Git host or of a token can push, and cannot sign.",
		Bad: "git commit -m update", Good: "git commit -S -m update",
	},
	{
		ID: "commit-signers", Group: GroupSources, Severity: fault, Title: "The keys that may sign commits cannot be used",
		Why: "A key that cannot be read accepts nothing, and a sync that requires signatures without any key is locked for good.",
		Bad: "signatures = \"head\"", Good: "signatures = \"head\"\nallowed_signers = \"ada@example.com ssh-ed25519 AAAA...\"",
	},
	{
		ID: "after-cycle", Group: GroupResources, Severity: fault, Title: "Stacks or deployments wait for each other",
		Why: "Each would wait for the other for ever, and none would be deployed.",
		Bad: "[[stack]]\nname = \"a\"\nafter = [\"b\"]\n\n[[stack]]\nname = \"b\"\nafter = [\"a\"]",
	},
	{
		ID: "after-filtered", Group: GroupResources, Severity: note, Title: "A stack to wait for is left out by its tags",
		Why: "The other stack belongs to another sync. Order across syncs is kept by core, not by this file.",
	},
	{
		ID: "after-self", Group: GroupResources, Severity: fault, Title: "A stack waits for itself",
		Why: "It would never be deployed.", Bad: "name = \"web\"\nafter = [\"web\"]",
	},
	{
		ID: "duplicate-field", Group: GroupResources, Severity: fault, Title: "A setting is made in two places",
		Why: "A field may be written in [stack.config] or in short form beside the name, under its name or an alias: once.",
		Bad: "server = \"a\"\n[stack.config]\nserver = \"b\"", Good: "server = \"a\"",
	},
	{
		ID: "duplicate-name", Group: GroupResources, Severity: fault, Title: "Two resources of a type have one name",
		Why: "Names are how everything else refers to a resource, so only one of the two could ever be meant.",
	},
	{
		ID: "alert-type", Group: GroupResources, Severity: fault, Title: "An alerter names an alert type that does not exist",
		Why: "The alert that someone counts on would never be sent.", Bad: `alert_types = ["ServerUnreachabel"]`, Good: `alert_types = ["ServerUnreachable"]`,
	},
	{
		ID: "alerter-url", Group: GroupResources, Severity: fault, Title: "An alerter's endpoint has no usable url",
		Why: "Nothing could be sent to it. The message does not repeat the address, for it may hold a token.",
		Bad: `endpoint = { type = "Slack", params = { url = "hooks.slack.com/x" } }`, Good: `endpoint = { type = "Slack", params = { url = "[[SLACK_URL]]" } }`,
	},
	{
		ID: "maintenance-window", Group: GroupResources, Severity: fault, Title: "A maintenance window is not a time",
		Why: "Alerts would be held back at the wrong time, or never.",
		Bad: `{ schedule_type = "Weekly", hour = 25, duration_minutes = 60 }`, Good: `{ schedule_type = "Weekly", day_of_week = "Sunday", hour = 3, duration_minutes = 60 }`,
	},
	{
		ID: "schedule", Group: GroupResources, Severity: fault, Title: "A schedule is no time",
		Why: "It would never run, and nobody would be told. docs/procedures.md says what can be written.",
		Bad: `schedule = "every day at 25:00"`, Good: `schedule = "every day at 05:00"`,
	},
	{
		ID: "schedule-hasty", Group: GroupResources, Severity: warning, Title: "A schedule has times within a minute of each other",
		Why: "A procedure starts at most once a minute by its schedule; the times in between are left out and counted.",
		Bad: `schedule = "every 10 seconds"`, Good: `schedule = "every minute"`,
	},
	{
		ID: "update-policy", Group: GroupResources, Severity: fault, Title: "An update policy is neither a range of versions nor a regular expression",
		Why: "No tag could be measured by it, and nobody would be told of a newer one.",
		Bad: "update_policy = \"web = newest\"", Good: "update_policy = \"web = ~1.4\"",
	},
	{
		ID: "update-service", Group: GroupResources, Severity: warning, Title: "A setting of updates names a service that there is not",
		Why: "It has no effect: the service that was meant is updated all the same, or not at all.",
		Bad: `auto_update_skip_services = ["dbb"]`, Good: `auto_update_skip_services = ["db"]`,
	},
	{
		ID: "update-unused", Group: GroupResources, Severity: warning, Title: "A setting of updates has no effect, for nothing is updated",
		Why: "Newer images are looked for only where poll_for_updates or auto_update says so, and only auto_update deploys them.",
		Bad: `update_min_age = "3-day"`, Good: "auto_update = true\nupdate_min_age = \"3-day\"",
	},
	{
		ID: "build-not-run", Group: GroupResources, Severity: note, Title: "A deployment uses the image of a build, and builds are not run",
		Why: "The image must be in its registry, or on the server, already. Build it in CI.",
	},
	{
		ID: "name-taken", Group: GroupResources, Severity: note, Title: "A deployment or repo shares its name with a stack",
		Why: "Names are one space in the fleet, so it gets its kind behind its name. `varan status` and `varan why` know it by that.",
	},
	{
		ID: "no-server-matches", Group: GroupResources, Severity: warning, Title: "No server carries the tags that a stack asks for",
		Why: "The stack runs nowhere, which looks the same as if it had been removed.", Bad: `server_tags = ["egde"]`, Good: `server_tags = ["edge"]`,
	},
	{
		ID: "overlay-unused", Group: GroupResources, Severity: warning, Title: "An overlay is for no server that the stack is on",
		Why: "Its settings have no effect; a server or tag is probably misspelt.",
	},
	{
		ID: "port-syntax", Group: GroupResources, Severity: fault, Title: "A port of a deployment cannot be read",
		Why: "Docker would refuse it. The host's side comes first, the container's after it.", Bad: `ports = "80 to 8080"`, Good: `ports = "8080 = 80/tcp"`,
	},
	{
		ID: "ports-ignored", Group: GroupResources, Severity: note, Title: "Ports have no effect on a deployment's network",
		Why: "On the host's network a container has every port that it opens, and on none it has no network at all.",
		Bad: "network = \"host\"\nports = \"8080:80\"", Good: "network = \"bridge\"\nports = \"8080:80\"",
	},
	{
		ID: "stack-tier", Group: GroupResources, Severity: fault, Title: "A stack is on a server of a tier it is not for",
		Why: "Only what is tagged tier:untrusted or tier:any may run on an untrusted server, and what is tagged tier:trusted may not. A stack that is moved must not take its secrets along.",
		Bad: "[[stack]]\nname = \"vault\"\nserver = \"dmz\"   # untrusted", Good: "[[stack]]\nname = \"site\"\ntags = [\"tier:untrusted\"]\nserver = \"dmz\"",
	},
	{
		ID: "invalid-name", Group: GroupResources, Severity: fault, Title: "A name has characters that names cannot have",
		Why: "A stack's name becomes a Compose project, a directory and part of container names.",
		Bad: `name = "a/b"`, Good: `name = "a-b"`,
	},
	{
		ID: "invalid-value", Group: GroupResources, Severity: fault, Title: "A value is not one of the words that are possible",
		Why: "A misspelt word would silently mean the default.", Bad: `tier = "trused"`, Good: `tier = "trusted"`,
	},
	{
		ID: "key-case", Group: GroupResources, Severity: fault, Title: "A key is written in the wrong case",
		Why: "Keys are lower case. Komodo ignores `Server = ...` in silence, and the stack then has no server.",
		Bad: `Server = "alpha"`, Good: `server = "alpha"`,
	},
	{
		ID: "missing-name", Group: GroupResources, Severity: fault, Title: "A resource has no name",
		Why: "Nothing could refer to it, and its history could not be found.", Bad: "[[stack]]\nserver = \"a\"",
	},
	{
		ID: "missing-server", Group: GroupResources, Severity: warning, Title: "A stack says no server",
		Why: "There is no host it could run on, so it is left out. With deploy = true that is an error.", Bad: "[[stack]]\nname = \"web\"", Good: "[[stack]]\nname = \"web\"\nserver = \"alpha\"",
	},
	{
		ID: "name-collision", Group: GroupResources, Severity: fault, Title: "Two names differ only by case",
		Why: "Docker, DNS and some file systems take them for the same.",
	},
	{
		ID: "not-a-resource-file", Group: GroupResources, Severity: note, Title: "A TOML file declares no resource",
		Why: "It is probably some application's configuration. Name the folders that hold resources to leave it out.",
	},
	{
		ID: "not-acted-on", Group: GroupResources, Severity: note, Title: "A known field or type has no effect yet",
		Why: "It is read and checked so that the file stays valid, but nothing happens because of it.",
	},
	{
		ID: "resource-path", Group: GroupResources, Severity: fault, Title: "A resource path names no TOML file or folder",
		Why: "With the path missing, everything it declared would look as if it had been removed.",
	},
	{
		ID: "server-enabled-default", Group: GroupResources, Severity: note, Title: "Whether a server is enabled follows from its address",
		Why: "Komodo's default is disabled, which fits a server that core dials. An agent that dials core has no address, and counts as enabled.",
	},
	{
		ID: "tier-conflict", Group: GroupResources, Severity: fault, Title: "A server is trusted and untrusted",
		Why: "The tier decides which secrets a host may see, so it must not depend on which of two lines is read.",
		Bad: "tags = [\"untrusted\"]\ntier = \"trusted\"",
	},
	{
		ID: "type", Group: GroupResources, Severity: fault, Title: "A value is of the wrong type",
		Why: "\"true\" in quotes is a text, not a boolean; a guess would sometimes be wrong.",
		Bad: `auto_pull = "true"`, Good: `auto_pull = true`,
	},
	{
		ID: "unknown-key", Group: GroupResources, Severity: fault, Title: "A key that nobody knows",
		Why: "A misspelt key has no effect, and nobody notices until the day it matters. `--lenient` makes it a warning.",
		Bad: `run_dir = "web"`, Good: `run_directory = "web"`,
	},
	{
		ID: "unknown-server", Group: GroupResources, Severity: fault, Title: "A stack names a server that does not exist",
		Why: "It could never be deployed. Offline this is a note: the server may have joined by itself and be known to core only.",
	},
	{
		ID: "unknown-stack", Group: GroupResources, Severity: fault, Title: "A stack comes after one that does not exist",
		Why: "The order that someone relied on would silently not be kept.", Bad: `after = ["dta"]`, Good: `after = ["data"]`,
	},
}

// variableRules are about variables and environments.
var variableRules = []Entry{
	{
		ID: "duplicate-variable", Group: GroupVariables, Severity: warning, Title: "An environment sets a variable twice",
		Why: "The last one counts. The first is a trap for whoever changes it.", Bad: "LEVEL = info\nLEVEL = debug",
	},
	{
		ID: "env-file-replaced", Group: GroupVariables, Severity: note, Title: "An environment file of the repository is replaced",
		Why: "The stack's environment is written to that path on the host, so what the repository has there is not used.",
	},
	{
		ID: "env-file-syntax", Group: GroupVariables, Severity: fault, Title: "An environment file cannot be read",
		Why: "One line that is not KEY=VALUE makes Compose refuse the file.", Bad: "DB PASSWORD = x", Good: "DB_PASSWORD=x",
	},
	{
		ID: "environment-name", Group: GroupVariables, Severity: fault, Title: "A name cannot name an environment variable",
		Why: "Shells and Compose would not find it again.", Bad: "2FAST = yes", Good: "TOO_FAST = yes",
	},
	{
		ID: "environment-syntax", Group: GroupVariables, Severity: fault, Title: "A line of an environment has no = or :",
		Why: "It is neither a variable nor a comment, so it was meant to be something.", Bad: "LEVEL info", Good: "LEVEL = info",
	},
	{
		ID: "ignored-variable", Group: GroupVariables, Severity: warning, Title: "A variable that steers Compose or Docker is ignored",
		Why: "COMPOSE_FILE or DOCKER_HOST in a file of the repository must not choose what is deployed, or where. The [[stack]] table does.",
		Bad: "COMPOSE_PROJECT_NAME=other", Good: "[stack.config]\nproject_name = \"other\"",
	},
	{
		ID: "undefined-variable", Group: GroupVariables, Severity: fault, Title: "A variable has no value",
		Why: "Compose would put nothing in its place: an empty password, a port that is none. Offline, [[NAME]] is a note, as core may know it.",
		Bad: "image: app:${TAG}", Good: "image: app:${TAG:-1.2.3}",
	},
	{
		ID: "variable-cycle", Group: GroupVariables, Severity: fault, Title: "Variables are made of each other",
		Why: "Filling them in would never end.", Bad: "A = \"[[B]]\"\nB = \"[[A]]\"",
	},
	{
		ID: "variable-name", Group: GroupVariables, Severity: fault, Title: "A variable of a stack has an unusable name",
		Why: "It could not be written to an environment file or read from one.",
	},
	{
		ID: "variable-scope", Group: GroupVariables, Severity: fault, Title: "A variable is not for this server or stack",
		Why: "Its scope keeps it from hosts that must not see it. Moving a stack does not widen that.",
		Bad: "# on an untrusted server\nKEY = [[INTERNAL_KEY]]   # tagged scope:trusted",
	},
}

// sourceRules are about where files come from.
var sourceRules = []Entry{
	{
		ID: "file-not-found", Group: GroupSources, Severity: fault, Title: "A file or directory does not exist",
		Why: "Compose would fail on the host, or Docker would mount an empty directory in its place.",
	},
	{
		ID: "made-on-host", Group: GroupSources, Severity: warning, Title: "An env_file is made by pre_deploy",
		Why: "Core cannot read it, so a plan does not know what is in it, and a change of it deploys nothing. The agent reads it when the stack starts.",
		Bad: "pre_deploy.command = \"sops -d secrets.env > app.env\"\n# and env_file: app.env", Good: "env_file: secrets.env   # encrypted with SOPS, read by core",
	},
	{
		ID: "not-a-directory", Group: GroupSources, Severity: fault, Title: "A run directory is a file",
		Why: "run_directory is the folder that Compose runs in; file_paths name the files in it.",
	},
	{
		ID: "path-outside", Group: GroupSources, Severity: fault, Title: "A path leads out of the repository",
		Why: "What is outside belongs to the machine that reads it: /etc/passwd of core, or keys of the host.",
		Bad: "env_file: ../../etc/secrets.env", Good: "env_file: secrets.env",
	},
	{
		ID: "remote-reference", Group: GroupSources, Severity: fault, Title: "A file is to be fetched from elsewhere",
		Why: "What a URL holds tomorrow is not in any commit, and fetching it lets a file make core call addresses of its choice.",
		Bad: "include: [https://example.com/compose.yaml]", Good: "include: [common/compose.yaml]",
	},
	{
		ID: "absolute-run-directory", Group: GroupSources, Severity: note, Title: "A run directory is an absolute path into a clone",
		Why: "Komodo keeps clones at fixed places, and old files name those. It is understood; written relative to the repository it stays right when places change.",
		Bad: `run_directory = "/etc/komodo/repos/fleet/web"`, Good: `run_directory = "web"`,
	},
	{
		ID: "elsewhere-not-checked", Group: GroupSources, Severity: note, Title: "Files in another repository or on a host are not checked",
		Why: "Offline nothing but this directory is read. `varan validate --core` has core look at the rest.",
	},
	{
		ID: "host-directory", Group: GroupSources, Severity: fault, Title: "Files on the host are in no known directory",
		Why: "With files_on_host the agent reads the files; without an absolute directory it does not know where.",
		Bad: "files_on_host = true", Good: "files_on_host = true\nrun_directory = \"/srv/stacks/web\"",
	},
	{
		ID: "missing-repo", Group: GroupSources, Severity: fault, Title: "A repo for a server does not say which repository",
		Why: "There is nothing to put onto the server.", Bad: "[[repo]]\nname = \"site\"\nserver = \"a\"", Good: "[[repo]]\nname = \"site\"\nserver = \"a\"\nrepo = \"org/site\"",
	},
	{
		ID: "source-unavailable", Group: GroupSources, Severity: fault, Title: "A repository or host directory cannot be read",
		Why: "What the stack is made of is unknown, so it is left as it is until it can be read again. The message says why.",
	},
	{
		ID: "invalid-interval", Group: GroupSources, Severity: fault, Title: "A sync polls too often or too seldom",
		Why: "Less than 5 seconds burdens the Git host, more than a week is most likely a slip.",
		Bad: `interval = "1s"`, Good: `interval = "1m"`,
	},
	{
		ID: "source-stale", Group: GroupSources, Severity: warning, Title: "The repository does not answer",
		Why: "What core last read stays in force, so the fleet is kept up, but newer commits are not seen.",
	},
	{ID: "proxy-url", Group: GroupSources, Severity: fault, Title: "The address of a proxy cannot be used", Why: "The repository could not be reached through it."},
	{ID: "url-characters", Group: GroupSources, Severity: fault, Title: "A repository's URL has forbidden characters", Why: "Spaces, control characters and leading dashes turn an address into an option of a command."},
	{
		ID: "url-credentials", Group: GroupSources, Severity: fault, Title: "A repository's URL holds a password",
		Why: "URLs end up in logs and process lists. Give the token with --password-file.",
		Bad: "https://TOKEN@git.example.com/fleet.git", Good: "https://git.example.com/fleet.git",
	},
	{ID: "url-empty", Group: GroupSources, Severity: fault, Title: "A repository has no URL", Why: "There is nothing to fetch."},
	{ID: "url-host", Group: GroupSources, Severity: fault, Title: "A repository's URL names no usable host", Why: "The host is missing, has forbidden characters, or its port is out of range."},
	{ID: "url-local", Group: GroupSources, Severity: fault, Title: "A local repository is not in an allowed folder", Why: "Core reads local repositories only below --local-root, so that a sync cannot read the rest of its disk."},
	{ID: "url-path", Group: GroupSources, Severity: fault, Title: "The path of a repository's URL cannot be used", Why: "It is missing, or climbs with `..`."},
	{ID: "url-scheme", Group: GroupSources, Severity: fault, Title: "A repository's URL has a scheme that is not accepted", Why: "Only https, http, ssh and allowed local paths are; git:// has no authentication, and helpers run commands."},
	{ID: "url-syntax", Group: GroupSources, Severity: fault, Title: "A repository's URL cannot be read", Why: "It is not an address, or has a query or fragment that no repository needs."},
}
