package rules

// sopsRules are about encrypted files.
var sopsRules = []Entry{
	{
		ID: "sops-backend", Group: GroupSecrets, Severity: fault, Title: "A file is encrypted with a key service",
		Why: "The file itself would say which service core asks, with core's credentials. Core has keys of its own and asks nobody: age and PGP keys are used.",
		Bad: "creation_rules:\n  - hc_vault_transit_uri: https://vault.example.com/v1/sops/keys/web", Good: "creation_rules:\n  - age: age1...   # varan key age show",
	},
	{
		ID: "sops-format", Group: GroupSecrets, Severity: fault, Title: "An encrypted file is not whole",
		Why: "It holds encrypted values, but the block that says how they are encrypted is missing, damaged or not understood. Containers would get the encrypted text.",
	},
	{
		ID: "sops-key", Group: GroupSecrets, Severity: fault, Title: "No identity opens an encrypted file",
		Why:  "The file is encrypted for other keys than those that core has for servers of this tier. The message names both.",
		Good: "creation_rules:\n  - age: age1...   # varan key age show, then: varan secret rekey",
	},
	{
		ID: "sops-mac", Group: GroupSecrets, Severity: fault, Title: "An encrypted file was changed after it was encrypted",
		Why:  "Its seal covers all values and their places. One was moved, changed or removed by someone without the keys, or by hand.",
		Good: "varan secret edit web/secrets.env   # seals what you change",
	},
	{
		ID: "sops-not-encrypted", Group: GroupSecrets, Severity: fault, Title: "What is meant to be encrypted is in plain text",
		Why:  "A file that is named as an encrypted one, or has the block of one, and yet holds plain values is a secret on its way into Git.",
		Good: "varan secret encrypt web/secrets.enc.yaml",
	},
	{
		ID: "sops-old-key", Group: GroupSecrets, Severity: warning, Title: "A file is encrypted for an old identity only",
		Why:  "Core has a newer identity. When the old one is taken away, the file cannot be opened any more.",
		Good: "varan secret rekey",
	},
	{
		ID: "sops-tier", Group: GroupSecrets, Severity: fault, Title: "A secret of trusted servers is used on an untrusted one",
		Why:  "Whoever controls an untrusted server reads what is on it. Core picks its keys by the server's tier, so that moving a file cannot move the secret.",
		Good: "creation_rules:\n  - path_regex: edge/\n    age: age1...,age1...   # the untrusted recipient, too",
	},
	{
		ID: "sops-too-large", Group: GroupSecrets, Severity: fault, Title: "An encrypted file or value is too large",
		Why: "A file has at most 1 MiB and a value 64 KiB: secrets are small, and whoever can push must not fill core's memory.",
	},
	{
		ID: "weak-secret", Group: GroupSecrets, Severity: note, Title: "An encrypted value is a plain word",
		Why: "A value such as \"info\" or \"8080\" is hidden where its variable is used. Hiding the word everywhere would hide what has nothing to do with it, and tell what it is.",
	},
	{
		ID: "secret-in-label", Group: GroupSecrets, Severity: fault, Title: "An encrypted file is used as label_file",
		Why: "Labels are shown to everyone who may list containers.",
		Bad: "label_file: secrets.env", Good: "env_file: secrets.env",
	},
}
