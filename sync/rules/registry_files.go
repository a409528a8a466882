package rules

// fileRules are about reading files.
var fileRules = []Entry{
	{
		ID: "alias-cycle", Group: GroupFiles, Severity: fault, Title: "A YAML alias contains itself",
		Why: "A value that is part of itself has no end; a reader that follows it never returns.",
		Bad: "x-base: &base\n  again: *base", Good: "x-base: &base\n  restart: always",
	},
	{
		ID: "alias-expansion", Group: GroupFiles, Severity: fault, Title: "YAML aliases expand to too much",
		Why: "A few lines of aliases to aliases can stand for billions of values and take the memory of whoever reads them.",
		Bad: "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]   # and so on",
	},
	{
		ID: "byte-order-mark", Group: GroupFiles, Severity: warning, Title: "The file starts with a byte order mark",
		Why: "It is read all the same, but other readers of TOML refuse the file with a confusing message. Save it as plain UTF-8.",
	},
	{
		ID: "control-character", Group: GroupFiles, Severity: fault, Title: "A control character is in the file",
		Why: "Control characters move the cursor of a terminal and forge lines of a log. No name or setting needs one.",
		Bad: `name = "web\u001b[31m"`, Good: `name = "web"`,
	},
	{
		ID: "duplicate-key", Group: GroupFiles, Severity: fault, Title: "A key is there twice",
		Why: "Readers disagree about which of the two counts, so the file means different things to different programs.",
		Bad: "image: app:1\nimage: app:2", Good: "image: app:2",
	},
	{
		ID: "empty-file", Group: GroupFiles, Severity: fault, Title: "A Compose file has no content",
		Why:  "An empty file would mean that the stack has no services, which is rarely meant and would remove them.",
		Good: "services:\n  app:\n    image: ghcr.io/org/app:1.2.3",
	},
	{
		ID: "file-too-large", Group: GroupFiles, Severity: fault, Title: "A file is larger than is read",
		Why: "Resource files are read in one piece, at most 1 MiB each. Split the file; a repository may have any number of them.",
	},
	{
		ID: "file-unreadable", Group: GroupFiles, Severity: fault, Title: "A file of a stack cannot be read",
		Why: "The stack needs the file, so deploying without it would deploy something else than what Git says.",
	},
	{
		ID: "invalid-encoding", Group: GroupFiles, Severity: fault, Title: "A text is not UTF-8",
		Why: "What is not UTF-8 is shown, compared and hashed differently by each program it passes through.",
	},
	{
		ID: "invalid-key", Group: GroupFiles, Severity: fault, Title: "A key in a Compose file is not a plain text",
		Why: "Lists, numbers with a meaning and tagged values as keys are read differently by different YAML readers.",
		Bad: "? [a, b]\n: value", Good: "a: value",
	},
	{
		ID: "invalid-utf8", Group: GroupFiles, Severity: fault, Title: "A resource file is not UTF-8",
		Why: "TOML is UTF-8 by definition. Editors on Windows sometimes save UTF-16; choose UTF-8 when saving.",
	},
	{
		ID: "invisible-character", Group: GroupFiles, Severity: warning, Title: "An invisible character is in the file",
		Why: "Zero-width and direction-changing characters make text read differently from what it is; reviewers cannot see them.",
	},
	{
		ID: "line-endings", Group: GroupFiles, Severity: fault, Title: "A line ends in a carriage return alone",
		Why: "Such files come from very old editors; all other readers see one long line. LF and CRLF are fine.",
	},
	{
		ID: "merge-conflict-marker", Group: GroupFiles, Severity: fault, Title: "An unresolved merge conflict is in the file",
		Why: "Both sides of the conflict are in the file, and neither was chosen.",
		Bad: "<<<<<<< HEAD\nserver = \"a\"\n=======\nserver = \"b\"\n>>>>>>> other",
	},
	{
		ID: "not-a-mapping", Group: GroupFiles, Severity: fault, Title: "A Compose file does not hold keys and values",
		Why: "A Compose file begins with keys such as `services:`. A list or a plain text is something else.",
		Bad: "- app", Good: "services:\n  app: {image: ghcr.io/org/app:1.2.3}",
	},
	{
		ID: "not-a-regular-file", Group: GroupFiles, Severity: warning, Title: "A resource file is a link or a special file",
		Why: "Links are not followed: they could lead out of the repository. The file is skipped.",
	},
	{
		ID: "not-regular", Group: GroupFiles, Severity: fault, Title: "A path is not a regular file",
		Why: "Opening a pipe or a device can wait for ever, and a directory has no content to read.",
		Bad: "env_file: /dev/zero", Good: "env_file: app.env",
	},
	{
		ID: "source-too-large", Group: GroupFiles, Severity: fault, Title: "The resource files are larger together than is read",
		Why: "16 MiB of TOML hold tens of thousands of resources. Name the paths that hold resources with `--path` or resource_path.",
	},
	{
		ID: "symlink", Group: GroupFiles, Severity: fault, Title: "A file is a symbolic link",
		Why: "A link in Git can point anywhere on the machine that reads it. Links are never followed; commit the file itself.",
	},
	{
		ID: "table-conflict", Group: GroupFiles, Severity: fault, Title: "A TOML table is defined in two ways",
		Why: "`[stack]` is one table and `[[stack]]` a list of them; the same name cannot be both.",
		Bad: "[server]\nname = \"a\"\n\n[[server]]\nname = \"b\"", Good: "[[server]]\nname = \"a\"\n\n[[server]]\nname = \"b\"",
	},
	{
		ID: "toml-syntax", Group: GroupFiles, Severity: fault, Title: "The file is not TOML",
		Why: "Nothing in the file can be trusted from the place of the fault on, so nothing of it is used.",
		Bad: "name = web", Good: `name = "web"`,
	},
	{
		ID: "too-deep", Group: GroupFiles, Severity: fault, Title: "Values are nested too deep",
		Why: "Deep nesting makes readers slow or crash. No real file comes near the limit.",
	},
	{
		ID: "too-large", Group: GroupFiles, Severity: fault, Title: "A file or value of a stack is too large",
		Why: "Releases are kept in memory on their way to the host. Large data belongs into an image or a volume.",
	},
	{
		ID: "too-many-errors", Group: GroupFiles, Severity: fault, Title: "A file has more errors than are shown",
		Why: "After twenty errors the rest is usually a consequence of the first. Fix those and look again.",
	},
	{
		ID: "too-many-files", Group: GroupFiles, Severity: fault, Title: "A stack uses too many files",
		Why: "A stack that mounts thousands of files of the repository is slow to send and to compare. Mount what it needs.",
	},
	{
		ID: "too-many-nodes", Group: GroupFiles, Severity: fault, Title: "A Compose file has too many values",
		Why: "Time and memory grow with the number of values. No real stack comes near 20,000.",
	},
	{
		ID: "too-many-remarks", Group: GroupFiles, Severity: note, Title: "A file has more warnings and notes than are shown",
		Why: "500 remarks about one file are more than anyone reads.",
	},
	{
		ID: "too-many-resources", Group: GroupFiles, Severity: fault, Title: "The repository declares too many resources",
		Why: "A generator that went wrong can declare a million stacks. Split the fleet into several syncs.",
	},
	{
		ID: "too-many-unknown-keys", Group: GroupFiles, Severity: fault, Title: "A file has more unknown keys than are shown",
		Why: "The file is probably written for something else. `--lenient` turns unknown keys into warnings.",
	},
	{
		ID: "unknown-tag", Group: GroupFiles, Severity: fault, Title: "A YAML tag is not known",
		Why: "Tags can ask a reader to build objects or decode data; those that Compose does not define are refused.",
		Bad: "hostname: !!python/object:os.system x", Good: "hostname: web",
	},
	{
		ID: "unreadable", Group: GroupFiles, Severity: fault, Title: "A resource file cannot be read",
		Why: "What the file declares is unknown, and stacks that are unknown would look as if they had been removed.",
	},
	{
		ID: "unterminated", Group: GroupFiles, Severity: fault, Title: "A string or bracket is never closed",
		Why: "The position is where it opens: the place where a reader gives up is often pages later.",
		Bad: `name = "web`, Good: `name = "web"`,
	},
	{
		ID: "yaml-syntax", Group: GroupFiles, Severity: fault, Title: "A Compose file is not YAML",
		Why: "Nothing of the file can be used. Tabs as indentation and a missing space after a colon are the usual causes.",
		Bad: "services:\n\tapp:\n\t\timage: a", Good: "services:\n  app:\n    image: a",
	},
}
