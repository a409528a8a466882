package rules

// referenceRules are about what resource files of every type say, and whom they name.
var referenceRules = []Entry{
	{
		ID: "compose-wrapper", Group: GroupResources, Severity: fault, Title: "A stack wraps Compose in a command",
		Why: "Compose runs inside the agent, so there is no command to go around it. Keep secrets in SOPS files, or store them with `varan secret set`.",
		Bad: `compose_cmd_wrapper = "op run -- [[COMPOSE_COMMAND]]"`,
	},
	{
		ID: "execution-type", Group: GroupResources, Severity: fault, Title: "A procedure runs something that does not exist",
		Why: "The procedure would fail on the day it is needed.",
		Bad: `{ execution.type = "DeployStak" }`, Good: `{ execution.type = "DeployStack", execution.params.stack = "web" }`,
	},
	{
		ID: "invalid-pattern", Group: GroupResources, Severity: fault, Title: "A pattern of names cannot be read",
		Why: "A pattern is names, wildcards, and regular expressions between backslashes.", Bad: `pattern = "\\(web\\"`, Good: `pattern = "\\^web-.*$\\"`,
	},
	{
		ID: "missing-param", Group: GroupResources, Severity: fault, Title: "An execution lacks what it is about",
		Why: "A deploy without a stack has nothing to deploy.",
		Bad: `{ execution.type = "DeployStack" }`, Good: `{ execution.type = "DeployStack", execution.params.stack = "web" }`,
	},
	{
		ID: "missing-type", Group: GroupResources, Severity: fault, Title: "A table that needs a type has none",
		Why: "Without the type nobody knows what its params mean.",
		Bad: `endpoint = { params.url = "https://..." }`, Good: `endpoint = { type = "Slack", params.url = "https://..." }`,
	},
	{
		ID: "name-normalized", Group: GroupResources, Severity: warning, Title: "A stack is called differently from how it is written",
		Why: "Compose projects have lower-case letters, digits, _ and -. Komodo makes names so in silence, and then no longer finds the one in the file.",
		Bad: `name = "Immich"`, Good: `name = "immich"`,
	},
	{
		ID: "no-meaning-here", Group: GroupResources, Severity: note, Title: "A field of Komodo has no meaning here",
		Why: "Agents dial core, and core reads repositories, so there is nothing that the field could change.",
	},
	{
		ID: "old-key", Group: GroupResources, Severity: note, Title: "A key or table of an older version means nothing now",
		Why: "It is accepted so that old files stay valid, and has no effect.",
	},
	{
		ID: "old-spelling", Group: GroupResources, Severity: note, Title: "A key is spelt as older versions did",
		Why: "Both spellings mean the same. `varan export` writes the current one.", Bad: `server_id = "a"`, Good: `server = "a"`,
	},
	{
		ID: "overlay-selector", Group: GroupResources, Severity: fault, Title: "An overlay is for no server",
		Why: "It would never have an effect.", Good: "[[stack.config.overlay]]\nservers = [\"edge-1\"]",
	},
	{
		ID: "pair-syntax", Group: GroupResources, Severity: fault, Title: "A port or volume has one part only",
		Why: "Each line names what is on the host, and what it is in the container.", Bad: `ports = "8080"`, Good: `ports = "8080:80"`,
	},
	{
		ID: "procedure-cycle", Group: GroupResources, Severity: fault, Title: "A procedure runs itself",
		Why: "It would run without end, alone or by way of another procedure.",
	},
	{
		ID: "approval-stage", Group: GroupResources, Severity: fault, Title: "A stage that waits for an approval does something else too",
		Why: "A stage either waits or runs: then its time limit has one meaning, and a restart of core finds nothing half done.",
		Bad: "[[procedure.config.stage]]\napproval = true\nexecutions = [{ execution.type = \"None\" }]", Good: "[[procedure.config.stage]]\napproval = true",
	},
	{
		ID: "execution-refused", Group: GroupResources, Severity: warning, Title: "A procedure has an execution that Varan does not run",
		Why: "The file stays valid, so that it can be shared with Komodo. A run that comes to it fails there and says why.",
	},
	{
		ID: "input-reference", Group: GroupResources, Severity: fault, Title: "An input chooses which procedure runs",
		Why: "Whether a procedure runs itself must be seen before it runs.",
		Bad: `execution.params.procedure = "${{ inputs.NEXT }}"`, Good: `execution.params.procedure = "restart"`,
	},
	{
		ID: "invalid-input", Group: GroupResources, Severity: fault, Title: "An input of a procedure, or a reference to one, is wrong",
		Why: "A run could not be told what to do, or would be told something that cannot be.",
		Bad: `default = "blue"   # options = ["red", "green"]`, Good: `default = "red"`,
	},
	{
		ID: "never-runs", Group: GroupResources, Severity: fault, Title: "An execution runs in a state in which its stage does not",
		Why: "It would never run.", Bad: "when = \"failure\"   # the stage runs on success", Good: "when = \"failure\"   # the stage has when = \"always\"",
	},
	{
		ID: "unknown-input", Group: GroupResources, Severity: fault, Title: "A parameter names an input that the procedure does not have",
		Why: "The run would fail there.", Bad: `"${{ inputs.VERSON }}"`, Good: `"${{ inputs.VERSION }}"`,
	},
	{
		ID: "reference-by-id", Group: GroupResources, Severity: note, Title: "A resource is named by the id that Komodo gave it",
		Why: "Ids are in Komodo's database only, so the reference cannot be followed. Names work everywhere.",
	},
	{
		ID: "unmatched-pattern", Group: GroupResources, Severity: note, Title: "A pattern of names matches nothing that is declared",
		Why: "It may be for what comes later, or misspelt.",
	},
	{
		ID: "unmatched-server-tags", Group: GroupResources, Severity: warning, Title: "No server carries the tags that something is for",
		Why: "The stack runs nowhere until a server has all of the tags. Offline this is a note.",
	},
	unknown("action", "an action"),
	unknown("alerter", "an alerter"),
	unknown("build", "a build"),
	unknown("builder", "a builder"),
	unknown("deployment", "a deployment"),
	unknown("procedure", "a procedure"),
	unknown("repo", "a repo"),
	unknown("resource-sync", "a resource sync"),
	unknown("swarm", "a swarm"),
}

// unknown is the rule about a reference to nothing.
func unknown(kind, article string) Entry {
	return Entry{
		ID: "unknown-" + kind, Group: GroupResources, Severity: warning, Title: "A resource names " + article + " that is not declared",
		Why: "It is a warning where another name is a slip of the finger away, and a note where the resource may be in core or in another sync.",
	}
}
