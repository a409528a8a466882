package rules

// composeRules are about Compose files that would not work.
var composeRules = []Entry{
	{
		ID: "ambiguous-compose-file", Group: GroupCompose, Severity: fault, Title: "Several Compose files could be meant",
		Why: "Compose takes one and warns; which one depends on its version. Name it with file_paths.",
		Bad: "web/compose.yaml\nweb/docker-compose.yml", Good: "file_paths = [\"compose.yaml\"]",
	},
	{ID: "compose-invalid", Group: GroupCompose, Severity: fault, Title: "Compose does not accept the file", Why: "The message is that of the Compose library itself; `docker compose config` would say the same."},
	{
		ID: "dependency-cycle", Group: GroupCompose, Severity: fault, Title: "Services depend on each other",
		Why: "None of them could be started first.", Bad: "a: {depends_on: [b]}\nb: {depends_on: [a]}",
	},
	{ID: "data-beside", Group: GroupCompose, Severity: note, Title: "Data lies outside the run directory", Why: "Nothing but the run directory is a stack's own on its host, so such a path leads below `.repo` in it.", Bad: "volumes: [\"../data:/data\"]", Good: "volumes: [\"./data:/data\"]"},
	{ID: "extra-args", Group: GroupCompose, Severity: fault, Title: "An argument for Compose is not supported", Why: "Arguments of up and build become options of the deploy; the rest has a field of its own, or no meaning without a terminal.", Bad: "extra_args = [\"--env-file\", \"x.env\"]", Good: "additional_env_files = [\"x.env\"]"},
	{ID: "extends-cycle", Group: GroupCompose, Severity: fault, Title: "Services extend each other", Why: "Neither has a definition of its own to begin with."},
	{
		ID: "image-reference", Group: GroupCompose, Severity: fault, Title: "An image's name cannot be read",
		Why: "No registry could answer for it.", Bad: "image: Org/App:v1 beta", Good: "image: ghcr.io/org/app:v1-beta",
	},
	{ID: "include-cycle", Group: GroupCompose, Severity: fault, Title: "Files include each other", Why: "Reading them would never end."},
	{
		ID: "interpolation", Group: GroupCompose, Severity: fault, Title: "A variable cannot be filled in",
		Why: "The expression is malformed, or `${NAME:?message}` asks for a value that nobody gave.",
		Bad: "image: app:${TAG", Good: "image: app:${TAG:-1.2.3}",
	},
	{
		ID: "missing-image", Group: GroupCompose, Severity: fault, Title: "A service has neither image nor build",
		Why: "There is nothing to run.", Bad: "app:\n  restart: always", Good: "app:\n  image: ghcr.io/org/app:1.2.3",
	},
	{ID: "not-resolved", Group: GroupCompose, Severity: note, Title: "A stack cannot be checked in full here", Why: "It uses a variable that only core knows, in a place where nothing fits that is not the value. Run it with --core."},
	{ID: "no-services", Group: GroupCompose, Severity: fault, Title: "No service is left to run", Why: "All services are in profiles that are not enabled, or there are none."},
	{ID: "obsolete-version", Group: GroupCompose, Severity: note, Title: "The key `version` has no meaning any more", Why: "Compose ignores it and warns on each run. Remove the line.", Bad: "version: \"3.8\""},
	{
		ID: "project-name", Group: GroupCompose, Severity: fault, Title: "The project's name is invalid or contradicts the stack",
		Why: "Containers, networks and volumes carry the project's name. If the file named another, they would not be found again.",
		Bad: "name: other", Good: "[stack.config]\nproject_name = \"other\"",
	},
	{ID: "reserved-label", Group: GroupCompose, Severity: fault, Title: "A label is one that Varan sets", Why: "Containers are recognised by these labels; a forged one would make Varan act on the wrong container.", Bad: "labels: {dev.varan.stack: other}"},
	{ID: "secret-in-path", Group: GroupCompose, Severity: fault, Title: "A path is made of a secret", Why: "Paths are shown in plans and logs, and stay on the host's disk."},
	{ID: "service-name", Group: GroupCompose, Severity: fault, Title: "A service's name cannot be used", Why: "It becomes a host name and part of container names.", Bad: "services: {\"my app\": {}}", Good: "services: {my-app: {}}"},
	{ID: "too-many-replicas", Group: GroupCompose, Severity: fault, Title: "A service asks for too many containers", Why: "A slip of the finger must not start a thousand containers.", Bad: "deploy: {replicas: 1000}"},
	{ID: "too-many-variables", Group: GroupCompose, Severity: fault, Title: "A service has too many variables or labels", Why: "More than 1000 come from a generator that went wrong; put them in a file that is mounted."},
	{ID: "too-many-services", Group: GroupCompose, Severity: fault, Title: "A stack has too many services", Why: "More than 200 services in a stack come from a generator that went wrong; split the stack."},
	{ID: "undefined-reference", Group: GroupCompose, Severity: fault, Title: "A service uses something that is not declared", Why: "A network, volume, config, secret or service of that name is missing from the file.", Bad: "services:\n  app: {image: a, networks: [front]}", Good: "services:\n  app: {image: a, networks: [front]}\nnetworks: {front: {}}"},
	{ID: "undefined-service", Group: GroupCompose, Severity: fault, Title: "A service that is to be extended does not exist", Why: "The service would have no definition.", Bad: "extends: {file: common.yaml, service: bsae}"},
	{ID: "volume-target", Group: GroupCompose, Severity: fault, Title: "A volume is mounted at a path that is none", Why: "Docker refuses targets that are not absolute.", Bad: "volumes: [\"data:var/lib/app\"]", Good: "volumes: [\"data:/var/lib/app\"]"},
	{ID: "wrong-type", Group: GroupCompose, Severity: fault, Title: "A value in a Compose file is of the wrong type", Why: "Compose refuses the file.", Bad: "ports: 8080", Good: "ports: [\"8080:80\"]"},
}

// hostRules are about what hands the host over.
var hostRules = []Entry{
	{ID: "api-socket", Group: GroupHost, Severity: fault, Title: "A service asks for the engine's socket and credentials", Why: "use_api_socket gives the container the Docker Engine and the registry passwords of the host.", Bad: "use_api_socket: true"},
	{ID: "build", Group: GroupHost, Severity: fault, Title: "An image is built on an untrusted server", Why: "A build runs whatever its Dockerfile says, with network access, on the host. Build in CI and use the image.", Bad: "build: .", Good: "image: ghcr.io/org/app:1.2.3"},
	{ID: "cap-add", Group: GroupHost, Severity: warning, Title: "A service adds a capability", Why: "Some capabilities, such as SYS_ADMIN, are as good as being root on the host. Add the one that is needed, and say why in an exception. Those that Docker gives every container can be added back without a word.", Bad: "cap_add: [SYS_ADMIN]", Good: "cap_drop: [ALL]\ncap_add: [NET_BIND_SERVICE]"},
	{ID: "dangerous-host-path", Group: GroupHost, Severity: warning, Title: "A service mounts a sensitive path of the host", Why: "With docker.sock, /etc or /root a container owns the host. A socket proxy that allows reading alone is enough for most.", Bad: "volumes: [\"/var/run/docker.sock:/var/run/docker.sock\"]", Good: "environment: {DOCKER_HOST: \"tcp://socket-proxy:2375\"}"},
	{ID: "foreign-name", Group: GroupHost, Severity: fault, Title: "A stack on an untrusted server takes a foreign name", Why: "By its name a container, network or volume of another stack could be taken over. Names begin with the project.", Bad: "container_name: db", Good: "container_name: web-db"},
	{ID: "foreign-container", Group: GroupHost, Severity: warning, Title: "A service joins a container of another stack", Why: "It shares that container's network, processes or data, and breaks when that one is replaced.", Bad: "network_mode: container:vpn", Good: "network_mode: service:vpn"},
	{ID: "host-device", Group: GroupHost, Severity: warning, Title: "A service uses a device of the host", Why: "Disks and memory are devices, too. Name exactly the one that is needed.", Bad: "devices: [\"/dev/sda\"]", Good: "devices: [\"/dev/ttyUSB0\"]"},
	{ID: "host-namespace", Group: GroupHost, Severity: warning, Title: "A service shares a namespace of the host", Why: "With the host's network it reaches every local service; with its processes it can stop and read them.", Bad: "network_mode: host", Good: "ports: [\"127.0.0.1:8080:80\"]"},
	{ID: "host-path", Group: GroupHost, Severity: fault, Title: "A path of the host is mounted on an untrusted server", Why: "A container of an untrusted server must not read or write files of its host.", Bad: "volumes: [\"/srv/data:/data\"]", Good: "volumes: [\"data:/data\"]"},
	{ID: "models", Group: GroupHost, Severity: fault, Title: "A service uses Compose models", Why: "Models are served by a program on the host that Varan does not manage. Run the model in a container."},
	{ID: "privileged", Group: GroupHost, Severity: warning, Title: "A service, hook or build is privileged", Why: "A privileged container is root on the host, with all its devices. Usually one capability or device is enough.", Bad: "privileged: true", Good: "cap_add: [NET_ADMIN]"},
	{ID: "provider-service", Group: GroupHost, Severity: fault, Title: "A service is a program on the host", Why: "`provider:` runs a program outside any container, as the agent. It is refused everywhere.", Bad: "provider: {type: ./setup.sh}"},
	{ID: "name-resolution", Group: GroupHost, Severity: warning, Title: "A service on an untrusted server decides what names mean", Why: "extra_hosts and dns lead a container to addresses of someone's choice, a cloud's metadata service among them.", Bad: "extra_hosts: [\"metadata:169.254.169.254\"]"},
	{ID: "network-driver", Group: GroupHost, Severity: fault, Title: "A network on an untrusted server is the host's own", Why: "macvlan, ipvlan and host put a container on the network that the host is on.", Bad: "networks: {lan: {driver: macvlan}}", Good: "networks: {front: {}}"},
	{ID: "remote-build", Group: GroupHost, Severity: warning, Title: "An image is built from a remote address", Why: "What is built is not in this commit, and can change without one.", Bad: "build: https://github.com/org/app.git", Good: "image: ghcr.io/org/app:1.2.3"},
	{ID: "volume-driver", Group: GroupHost, Severity: fault, Title: "A volume on an untrusted server is a network mount", Why: "A volume driver or an NFS address mounts what the container's author chooses, with the host's access.", Bad: "driver_opts: {type: nfs, o: addr=10.0.0.1, device: \":/export\"}"},
	{ID: "weak-isolation", Group: GroupHost, Severity: warning, Title: "A service gives up isolation", Why: "seccomp, AppArmor and SELinux stop most ways out of a container; kernel parameters and runtimes reach past it.", Bad: "security_opt: [\"seccomp=unconfined\"]", Good: "security_opt: [\"no-new-privileges:true\"]"},
}
