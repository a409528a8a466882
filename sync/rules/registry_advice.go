package rules

// hardeningRules are what a repository may choose to follow.
var hardeningRules = []Entry{
	{
		ID: "cap-drop-all", Group: GroupHardening, Severity: warning, Title: "A service keeps Docker's default capabilities",
		Why: "Most services need none. Dropping all of them takes a dozen ways of doing harm from whoever breaks in.",
		Bad: "image: app", Good: "cap_drop: [ALL]\ncap_add: [NET_BIND_SERVICE]   # only if needed",
	},
	{
		ID: "image-digest", Group: GroupHardening, Severity: warning, Title: "An image has no digest",
		Why: "A tag can be moved to another image. With a digest every host runs the same bytes, and a bot can propose updates as commits.",
		Bad: "image: docker.io/library/nginx:1.27", Good: "image: docker.io/library/nginx:1.27@sha256:...",
	},
	{
		ID: "image-registry-prefix", Group: GroupHardening, Severity: warning, Title: "An image does not say its registry",
		Why: "Which registry a short name means is the host's configuration, not yours. Writing it out leaves no room for a lookalike.",
		Bad: "image: nginx:1.27", Good: "image: docker.io/library/nginx:1.27",
	},
	{
		ID: "logging-limits", Group: GroupHardening, Severity: warning, Title: "A service's log grows without limit",
		Why: "Docker's default log driver never deletes anything. A chatty service fills the disk, and then everything stops.",
		Bad: "logging: {driver: json-file}", Good: "logging:\n  driver: json-file\n  options: {max-size: 10m, max-file: \"3\"}",
	},
	{
		ID: "no-new-privileges", Group: GroupHardening, Severity: warning, Title: "Processes of a service may gain privileges",
		Why: "A set-uid program in the image can make root of an ordinary user. With this option it cannot.",
		Bad: "image: app", Good: "security_opt: [\"no-new-privileges:true\"]",
	},
	{
		ID: "published-ports", Group: GroupHardening, Severity: warning, Title: "A service publishes a port on the network",
		Why: "A published port goes past the reverse proxy with its TLS and login, and past the host's firewall. Make exceptions for the proxy itself and for DNS.",
		Bad: "ports: [\"8080:80\"]", Good: "ports: [\"127.0.0.1:8080:80\"]",
	},
	{
		ID: "read-only", Group: GroupHardening, Severity: warning, Title: "A service can write to its own file system",
		Why: "What breaks in cannot leave anything behind in a file system that is read-only. tmpfs and volumes hold what the service writes.",
		Bad: "image: app", Good: "read_only: true\ntmpfs: [/tmp]",
	},
	{
		ID: "restart-policy", Group: GroupHardening, Severity: warning, Title: "A service does not start again by itself",
		Why: "After a reboot or a crash it stays down until someone notices.",
		Bad: "restart: \"no\"", Good: "restart: unless-stopped",
	},
	{
		ID: "unpinned-image", Group: GroupHardening, Severity: warning, Title: "An image has no version, or the version latest",
		Why: "What runs depends on when it was pulled: two hosts run different versions, and going back to an old commit does not go back to the old image.",
		Bad: "image: docker.io/library/postgres:latest", Good: "image: docker.io/library/postgres:17.2",
	},
	{
		ID: "env-example", Group: GroupPortability, Severity: warning, Title: "No .env.example lists a variable the stack needs",
		Why: "With the list beside it, the stack can be started anywhere with plain `docker compose` after filling it in.",
		Bad: "# compose.yaml uses ${DOMAIN}, and nothing says so", Good: "# .env.example\nDOMAIN=example.com",
	},
	{
		ID: "stands-alone", Group: GroupPortability, Severity: warning, Title: "A Compose file needs a file that only Varan makes",
		Why: "`docker compose config` fails on a checkout, so editors, CI and people cannot use the file.",
		Bad: "env_file: .env   # not in Git, and no .env.example", Good: "env_file:\n  - {path: .env, required: false}",
	},
	{
		ID: "literal-reference", Group: GroupVariables, Severity: warning, Title: "[[NAME]] in a Compose file is not filled in",
		Why: "Resource files fill in names in double brackets; a Compose file of the repository is deployed with the brackets in it. ${NAME} works there, with and without Varan.",
		Bad: "HOST: app.[[DOMAIN]]", Good: "HOST: app.${DOMAIN}",
	},
	{
		ID: "plaintext-password", Group: GroupSecrets, Severity: warning, Title: "A value looks like a password in plain text",
		Why: "Everyone who can read the repository, now or in its history, has the password. It goes by the name of the variable, so it may be wrong: make an exception then.",
		Bad: "POSTGRES_PASSWORD: hunter2", Good: "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD}",
	},
	{
		ID: "plaintext-secret", Group: GroupSecrets, Severity: warning, Title: "A key or token is in plain text",
		Why: "Nothing but a secret has this form. It is compromised from the day it is pushed: replace it at its source, then store the new one with `varan secret set` or encrypt the file with SOPS. Key material in a resource file is an error.",
		Bad: "token = \"ghp_...\"", Good: "token = \"[[GITHUB_TOKEN]]\"",
	},
}

// fleetRules are about stacks taken together, and about the rules file.
var fleetRules = []Entry{
	{
		ID: "container-name-taken", Group: GroupFleet, Severity: fault, Title: "Two stacks on a server want one container name",
		Why: "Docker refuses the second one, so one of the two stacks cannot start.",
		Bad: "container_name: db   # in both", Good: "# leave container_name out: Compose makes one of its own",
	},
	{
		ID: "external-resource", Group: GroupFleet, Severity: note, Title: "An external network or volume that no stack makes",
		Why: "It must exist on the server before the stack starts. If someone made it by hand, all is well; after a reinstallation it is missing. On untrusted servers it is a warning.",
		Bad: "networks: {proxy: {external: true}}", Good: "# in the stack that owns it\nnetworks: {proxy: {name: proxy}}",
	},
	{
		ID: "network-taken", Group: GroupFleet, Severity: warning, Title: "Two stacks on a server declare one network",
		Why: "The first one makes it with its own options, and taking it down breaks the other. One should own it, the others say external: true.",
		Bad: "networks: {proxy: {name: proxy}}   # in both", Good: "networks: {proxy: {external: true}}   # in all but one",
	},
	{
		ID: "port-taken", Group: GroupFleet, Severity: warning, Title: "Two services on a server want one port of the host",
		Why: "Only the first to start gets it; the other fails to start. Addresses and protocols are taken into account.",
		Bad: "ports: [\"8080:80\"]   # in two stacks", Good: "ports: [\"8081:80\"]   # in one of them",
	},
	{
		ID: "project-taken", Group: GroupFleet, Severity: fault, Title: "Two stacks on a server have one project name",
		Why: "Compose tells its containers apart by the project. Each deploy of one stack would remove the containers of the other.",
	},
	{
		ID: "unused-variable", Group: GroupFleet, Severity: note, Title: "A variable that nothing uses",
		Why: "It is left over, or its name is misspelt where it was meant to be used.",
	},
	{
		ID: "volume-taken", Group: GroupFleet, Severity: warning, Title: "Two stacks on a server declare one volume",
		Why: "Both write to the same data, and removing one stack with its volumes takes the other's. One should own it, the others say external: true.",
		Bad: "volumes: {data: {name: data}}   # in both", Good: "volumes: {data: {external: true, name: data}}   # in one of them",
	},
	{
		ID: "exception-reason", Group: GroupSettings, Severity: fault, Title: "An exception has no reason",
		Why: "In a year nobody knows whether the exception is still needed. The reason is shown wherever the finding would have been.",
		Bad: "[[exception]]\nrule = \"privileged\"\nstack = \"vpn\"", Good: "[[exception]]\nrule = \"privileged\"\nstack = \"vpn\"\nreason = \"loads a kernel module\"",
	},
	{
		ID: "rule-level", Group: GroupSettings, Severity: fault, Title: "A level is not one that the rule can have",
		Why: "A level is off, note, warn or error. What cannot work stays an error, and on untrusted servers nothing lowers what hands the host over.",
		Bad: "read-only = \"disabled\"", Good: "read-only = \"off\"",
	},
	{
		ID: "unknown-rule", Group: GroupSettings, Severity: fault, Title: "The rules file names a rule that does not exist",
		Why: "A misspelt rule would stay as it was in silence. `varan explain` lists all.",
		Bad: "readonly = \"off\"", Good: "read-only = \"off\"",
	},
	{
		ID: "unused-exception", Group: GroupSettings, Severity: warning, Title: "An exception matches nothing",
		Why: "What it excused is gone, or its rule, stack or service is misspelt. Remove it, or it will hide the next one.",
	},
}
