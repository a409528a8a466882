package sops

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ConfigName is the file that says which files are encrypted for whom.
const ConfigName = ".sops.yaml"

// Config is what a .sops.yaml says. Of its many settings those count that choose keys and
// values; a rule that names a key service is refused when it is used.
type Config struct{ rules []creationRule }

type creationRule struct {
	PathRegex string      `yaml:"path_regex"`
	Age       stringsText `yaml:"age"`
	PGP       stringsText `yaml:"pgp"`
	KeyGroups []keyGroup  `yaml:"key_groups"`

	UnencryptedSuffix       string `yaml:"unencrypted_suffix"`
	EncryptedSuffix         string `yaml:"encrypted_suffix"`
	UnencryptedRegex        string `yaml:"unencrypted_regex"`
	EncryptedRegex          string `yaml:"encrypted_regex"`
	UnencryptedCommentRegex string `yaml:"unencrypted_comment_regex"`
	EncryptedCommentRegex   string `yaml:"encrypted_comment_regex"`
	MACOnlyEncrypted        bool   `yaml:"mac_only_encrypted"`

	others map[string]bool
	match  *regexp.Regexp
}

type keyGroup struct {
	Age    stringsText
	PGP    stringsText
	others map[string]bool
}

// stringsText is a list, or one text with commas.
type stringsText []string

// UnmarshalYAML implements yaml.Unmarshaler.
func (s *stringsText) UnmarshalYAML(n *yaml.Node) error {
	var list []string
	if n.Kind == yaml.SequenceNode {
		if err := n.Decode(&list); err != nil {
			return fmt.Errorf("line %d: a list of keys is expected", n.Line)
		}
	} else {
		list = strings.Split(n.Value, ",")
	}
	for _, text := range list {
		if text = strings.TrimSpace(text); text != "" {
			*s = append(*s, text)
		}
	}
	return nil
}

// services notes which key services a mapping names.
func services(n *yaml.Node) map[string]bool {
	out := map[string]bool{}
	known := backends()
	known["azure_keyvault"], known["hc_vault_transit_uri"] = known["azure_kv"], known["hc_vault"]
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if known[n.Content[i].Value] != "" {
			out[n.Content[i].Value] = true
		}
	}
	return out
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (r *creationRule) UnmarshalYAML(n *yaml.Node) error {
	type plain creationRule
	if err := n.Decode((*plain)(r)); err != nil {
		return fmt.Errorf("line %d: not a creation rule", n.Line)
	}
	r.others = services(n)
	var err error
	if r.match, err = regexp.Compile(r.PathRegex); err != nil {
		return fmt.Errorf("line %d: path_regex is not a regular expression", n.Line)
	}
	return nil
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (g *keyGroup) UnmarshalYAML(n *yaml.Node) error {
	var keys struct {
		Age stringsText `yaml:"age"`
		PGP stringsText `yaml:"pgp"`
	}
	if err := n.Decode(&keys); err != nil {
		return fmt.Errorf("line %d: not a group of keys", n.Line)
	}
	g.Age, g.PGP, g.others = keys.Age, keys.PGP, services(n)
	return nil
}

// ParseConfig reads a .sops.yaml.
func ParseConfig(data []byte) (*Config, error) {
	var file struct {
		Rules []creationRule `yaml:"creation_rules"`
	}
	if len(data) > maxFile {
		return nil, errors.New("the file is too large")
	}
	if err := yaml.NewDecoder(bytes.NewReader(data)).Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the creation rules: %w", err)
	}
	return &Config{rules: file.Rules}, nil
}

// ErrNoRule says that no creation rule is for a file.
var ErrNoRule = errors.New("no creation rule of " + ConfigName + " is for this file")

// For is what the first rule that matches a file says: for whom it is encrypted, and which
// values. name is relative to the directory of the .sops.yaml.
func (c *Config) For(name string) ([]Recipient, Rule, error) {
	name = path.Clean(strings.ReplaceAll(name, `\`, "/"))
	i := slices.IndexFunc(c.rules, func(r creationRule) bool { return r.match.MatchString(name) })
	if i < 0 {
		return nil, Rule{}, ErrNoRule
	}
	r := &c.rules[i]
	groups := append([]keyGroup{{r.Age, r.PGP, r.others}}, r.KeyGroups...)
	if len(r.KeyGroups) > 1 {
		return nil, Rule{}, errors.New("the rule splits the key among key groups, which is not supported")
	}
	var to []Recipient
	for _, g := range groups {
		for service := range g.others {
			return nil, Rule{}, fmt.Errorf("the rule names %s, a key service, and core asks none: use age or PGP keys", service)
		}
		for _, id := range g.Age {
			to = append(to, Recipient{KindAge, id})
		}
		for _, id := range g.PGP {
			to = append(to, Recipient{KindPGP, id})
		}
	}
	rule := Rule{
		r.UnencryptedSuffix, r.EncryptedSuffix, r.UnencryptedRegex, r.EncryptedRegex,
		r.UnencryptedCommentRegex, r.EncryptedCommentRegex, r.MACOnlyEncrypted,
	}
	if len(to) == 0 {
		return nil, Rule{}, errors.New("the rule names no age or PGP key")
	}
	for _, recipient := range to {
		if bad := checkRecipient(recipient, place{}); bad != nil {
			return nil, Rule{}, errors.New(bad.message)
		}
	}
	if r.MACOnlyEncrypted {
		return nil, Rule{}, errors.New("the rule sets mac_only_encrypted, and core refuses files whose other values can be changed unseen")
	}
	err := rule.check()
	return to, rule, err
}

// Differs reports whether a file is encrypted otherwise than for these recipients and by
// this rule, and who would be added and removed.
func (f *File) Differs(to []Recipient, rule Rule) (added, removed []Recipient, differs bool) {
	have := f.Recipients()
	for _, r := range to {
		if !matchesAny(r, have) {
			added = append(added, r)
		}
	}
	for _, r := range have {
		if !matchesAny(r, to) {
			removed = append(removed, r)
		}
	}
	return added, removed, len(added)+len(removed) > 0 || f.meta.rule != rule
}
